"""Held-out episodes of the run's environment, in the paper's arms (arXiv 2603.16856, main results and ablation).

The arms differ only in the text in the prompt: none (the base or consolidated model itself), extracted knowledge, or
raw episodes instead of knowledge. All arms play the same seeds, so comparisons are paired.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from oel_core.config.run import Count, OelConfig, Section
from oel_core.envs.base import Environment, env_spec
from oel_core.errors import ConfigError
from oel_core.evaluation.base import EpisodeSuite, held_out
from oel_core.evaluation.options import parse_options
from oel_core.prompts.extraction.base import CountTokens, transcript
from oel_core.rollouts.playing import EpisodePlan
from oel_core.types import Split, Trajectory

Arm = Literal["plain", "in_context", "raw"]


class GamesOptions(Section):
    """Options of the `games` suite."""

    arm: Arm = "plain"
    """`plain`: no text in the prompt; `in_context`: extracted knowledge; `raw`: raw episodes."""
    episodes: Count | None = None
    """Held-out episodes; null is `evaluate.games.episodes`."""
    texts: tuple[str, ...] = ()
    """Episode i gets text i modulo their number: K knowledge texts, or K texts of raw episodes."""


def make_games(options: Mapping[str, Any], config: OelConfig) -> EpisodeSuite:
    """The suite for a run's configuration.

    Raises:
        ConfigError: invalid options, texts for an arm without any, or no texts for an arm that needs some.
    """
    chosen = parse_options("games", GamesOptions, options)
    if bool(chosen.texts) != (chosen.arm != "plain"):
        raise ConfigError(f"suite games: arm {chosen.arm} was given {len(chosen.texts)} texts; only plain reads none")
    settings = config.evaluate.games
    episodes = chosen.episodes or settings.episodes
    plays = held_out(config, env_spec(config), settings.sampling, episodes, split=Split(settings.split))
    if chosen.arm == "in_context":
        plays = replace(plays, injection=config.knowledge.injection)
    name = "games" if chosen.arm == "plain" else f"games_{chosen.arm}"
    texts = chosen.texts

    def text_of(plan: EpisodePlan, environment: Environment) -> str:
        return texts[plan.index % len(texts)]

    return EpisodeSuite(name, plays, text_of if texts else None)


def raw_episodes(
    trajectories: Sequence[Trajectory], max_tokens: int, count_tokens: CountTokens, turns_shown: int | None = None
) -> list[tuple[Trajectory, str]]:
    """The newest episodes that together fit into `max_tokens`, newest last, each in the extractor's format.

    Each with its last `turns_shown` turns (None: all). Failed ones are left out.
    """
    kept: list[tuple[Trajectory, str]] = []
    for trajectory in reversed([episode for episode in trajectories if episode.error is None]):
        text = f"# Episode\n{transcript(trajectory, turns_shown)}\nFeedback: {trajectory.feedback}"
        longer = [(trajectory, text), *kept]
        if count_tokens("\n\n".join(text for _, text in longer)) > max_tokens:
            break
        kept = longer
    return kept


def raw_knowledge(
    trajectories: Sequence[Trajectory], max_tokens: int, count_tokens: CountTokens, turns_shown: int | None = None
) -> str:
    """`raw_episodes` as one text, in place of an extractor's output: the text of the ablation."""
    return "\n\n".join(text for _, text in raw_episodes(trajectories, max_tokens, count_tokens, turns_shown))
