"""Builds the prompts of each optimizer step from the collected episodes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count, groupby, islice
from random import Random

from oel_core.config.operation import DistilledTurns
from oel_core.config.run import OelConfig
from oel_core.distillation.data.dataset import sample_id
from oel_core.errors import DistillationError
from oel_core.rollouts.planning import episode_id
from oel_core.seeds import derive_seed
from oel_core.types import PartialRollout, Split, Trajectory


@dataclass(frozen=True)
class Prompts:
    """The prompts of every step and, for the regime `sft`, the collected responses."""

    steps: list[list[PartialRollout]]
    responses: Mapping[str, Sequence[int]] | None = None
    """Token ids by `<trajectory>/turn<number>`."""


def plan_prompts(config: OelConfig, episodes: Sequence[Trajectory], seed: int) -> Prompts:
    """The prompts for the configured regime. DistillationError where it needs passed episodes and there are none."""
    if config.distill.regime == "sft":
        return successes(config, episodes, seed)
    return Prompts(partial_rollouts(config, episodes))


def deal_prompts(config: OelConfig, prompts: Sequence[PartialRollout], round_index: int, seed: int) -> Prompts:
    """Prompts without episodes, step by step, as many episodes a step as are collected for one.

    The first pass takes the episodes in their order; where there are too few, each further pass is in a random order.
    Ids become those of collected episodes: the same prompts are trained on as where they were collected.
    """
    episodes = [list(group) for _, group in groupby(prompts, key=lambda prompt: prompt.trajectory_id)]
    if not episodes:
        raise DistillationError("the bundle gave no prompts, so there is nothing to distil on")
    passes = (Random(derive_seed(seed, "pass", n)).sample(episodes, len(episodes)) for n in count(1))
    order = chain(episodes, chain.from_iterable(passes))
    size = config.distill.episodes_per_step
    steps: list[list[PartialRollout]] = [[] for _ in range(config.distill.steps)]
    for index, episode in enumerate(islice(order, len(steps) * size)):
        id = episode_id(Split.DISTILL, round_index, 0, index)
        steps[index // size] += [prompt.model_copy(update={"trajectory_id": id}) for prompt in episode]
    return Prompts(steps)


def partial_rollouts(config: OelConfig, episodes: Sequence[Trajectory]) -> list[list[PartialRollout]]:
    """The prompts of all episodes, step by step: episode n belongs to step n // `distill.episodes_per_step`.

    DistillationError: only prompts of rated answers are wanted, and there are none.
    """
    steps: list[list[PartialRollout]] = [[] for _ in range(config.distill.steps)]
    for episode in episodes:
        steps[episode.index // config.distill.episodes_per_step] += prompts_of(episode, config.experience.distill_turns)
    if not any(steps) and config.experience.distill_turns == "rated":
        raise DistillationError(
            "experience.distill_turns is rated, but no collected answer has feedback: collect some, or set it to all"
        )
    return steps


def successes(config: OelConfig, episodes: Sequence[Trajectory], seed: int) -> Prompts:
    """Every turn of passed episodes with its response, in as many steps and episodes per step as other regimes.

    Passed episodes are fewer, so they are repeated in epochs, each with a new random order.

    Raises:
        DistillationError: no episode was passed, or none of them holds its responses' token ids.
    """
    responses = {
        sample_id(episode.id, number): turn.response_ids
        for episode in episodes
        if episode.passed
        for number, turn in enumerate(episode.turns)
        if turn.response_ids
    }
    turns = config.experience.distill_turns
    kept = [episode for episode in episodes if any(_name(turn) in responses for turn in prompts_of(episode, turns))]
    if not kept:
        passed = sum(episode.passed for episode in episodes)
        if turns == "rated" and responses:
            raise DistillationError(
                f"distill.regime is sft and experience.distill_turns rated, but of {passed} passed episodes none has "
                "feedback on an answer: set distill_turns to all"
            )
        raise DistillationError(
            f"distill.regime is sft, but of {len(episodes)} collected episodes {passed} were passed"
            f"{' and their responses have no token ids' if passed else ''}: there is nothing to learn from. Raise "
            "distill.steps or distill.episodes_per_step to collect more, or set distill.regime=on_policy"
        )
    order = chain.from_iterable(Random(derive_seed(seed, "epoch", n)).sample(kept, len(kept)) for n in count())
    steps = [
        [turn for episode in islice(order, config.distill.episodes_per_step) for turn in prompts_of(episode, turns)]
        for _ in range(config.distill.steps)
    ]
    return Prompts([[turn for turn in step if _name(turn) in responses] for step in steps], responses)


def prompts_of(episode: Trajectory, turns: DistilledTurns = "all") -> list[PartialRollout]:
    """The prompts of an episode's turns, without the responses.

    `rated` leaves out turns without feedback, unless the episode as a whole has some.
    """
    used = [[feedback for feedback in turn.given if feedback.rates] for turn in episode.turns]
    whole = any(feedback.whole for given in used for feedback in given)
    return [
        PartialRollout(trajectory_id=episode.id, turn=number, messages=turn.messages)
        for number, turn in enumerate(episode.turns)
        if turns == "all" or whole or used[number]
    ]


def _name(prompt: PartialRollout) -> str:
    return sample_id(prompt.trajectory_id, prompt.turn)
