"""Cross-game suites: held-out episodes of an environment that the run does not train in, without knowledge."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from oel_core.config.run import Count, OelConfig, Options, Section
from oel_core.envs import check_spec
from oel_core.envs.base import EnvSpec
from oel_core.errors import ConfigError
from oel_core.evaluation.base import EpisodeSuite, held_out
from oel_core.evaluation.options import parse_options

CROSS_GAME = "cross_game"


class CrossGameOptions(Section):
    """Options of a cross-game suite."""

    environment: str
    """The other environment; `oel envs` lists them."""
    options: Options = Field(default_factory=dict)
    """Options of that environment."""
    max_turns: Count | None = None
    """Null for the run's own `environment.max_turns`."""
    split_by_layout: bool = False
    """Use only layouts of that environment's held-out share, to compare with models trained there."""
    episodes: Count = 128
    """Held-out episodes."""


def make_cross_game(name: str, options: Mapping[str, Any], config: OelConfig) -> EpisodeSuite:
    """The suite called `cross_game`, or `cross_game_<label>` if a run has several.

    Raises:
        ConfigError: an option is wrong, or the environment is the run's own.
    """
    chosen = parse_options(name, CrossGameOptions, options)
    own = config.environment
    spec = EnvSpec(chosen.environment, chosen.options, chosen.max_turns or own.max_turns)
    check_spec(spec)
    if (spec.name, dict(spec.options)) == (own.name, dict(own.options)):
        raise ConfigError(f"suite {name}: {spec.name} with these options is the run's own world; name another one")
    sampling = config.evaluate.games.sampling
    plays = held_out(config, spec, sampling, chosen.episodes, split_by_layout=chosen.split_by_layout)
    label = f"{CROSS_GAME}_{spec.name}" if name == CROSS_GAME else name
    extra = {"environment": spec.name, "options": dict(spec.options), "max_turns": spec.max_turns}
    return EpisodeSuite(label, plays, extra=extra)


def make_plain_cross_game(options: Mapping[str, Any], config: OelConfig) -> EpisodeSuite:
    """The suite called `cross_game`; see `make_cross_game`."""
    return make_cross_game(CROSS_GAME, options, config)
