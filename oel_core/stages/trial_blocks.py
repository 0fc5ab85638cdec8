"""The blocks of a sequential trial: new held-out episodes, played by the candidate and its baselines.

Every trial has its own episodes: their seeds depend on the rounds of candidate and champion, and all models play them
in the environment of the candidate's round. Suites with a fixed set of questions have one block, the models'
evaluations; a baseline whose evaluation had other settings or another environment answers the questions again. Cases
have one block too, of which only those added by this round count.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from oel_core.cases.frozen import read_cases
from oel_core.config.operation import SequentialConfig
from oel_core.evaluation import Suite, make_suite, model_settings
from oel_core.evaluation.base import HeldOutPlay
from oel_core.rollouts.playing import KnowledgeFor
from oel_core.rounds.context import StageContext
from oel_core.rounds.outcomes import read_episodes
from oel_core.rounds.round import Round
from oel_core.runs.folder import round_name
from oel_core.runs.jsonl import JsonlWriter, recover_jsonl
from oel_core.runs.manifest import differences
from oel_core.stages.evaluate import measurement, run_suite
from oel_core.types import Trajectory


@dataclass(frozen=True)
class Blocks:
    """The blocks of one suite."""

    candidate: Round
    champion: int
    beside: Sequence[int]
    """Rounds of the baselines."""
    part: str
    """`held_out` or `ood/<suite>`."""
    settings: SequentialConfig
    folder: Path
    """Contains a folder for the part with one file of episodes per model."""
    context: StageContext

    def pairs_after(self, blocks: int) -> int:
        """Pairs that may still be played after this many blocks."""
        return max(0, self.settings.most_episodes - blocks * self.settings.block_episodes) if self._plays else 0

    def play(self, block: int) -> dict[int, list[Trajectory]]:
        """Round of the model → its episodes of one block (from 0). Episodes of a killed attempt are reused.

        The model that played last starts the next block, since only one is held in memory.

        Raises:
            ArtifactError: the file of a killed attempt is damaged, or an evaluation of fixed questions is missing.
            PolicyError: a model cannot be loaded or cannot generate.
        """
        models = [*self.beside, self.candidate.number]
        if self._plays is None:
            return {number: self._evaluated(number) for number in models}
        size, most = self.settings.block_episodes, self.settings.most_episodes
        places = range(block * size, min((block + 1) * size, most))
        drawn = self._plays.drawn(self.candidate.number, self.champion, places)
        self.context.on_progress(places.start, most)
        return {number: self._play(number, drawn) for number in (models if block % 2 else models[::-1])}

    @cached_property
    def _suite(self) -> Suite | None:
        """None for cases."""
        config = self.candidate.config
        if self.part == "held_out":
            return None if config.evaluate.held_out == "cases" else make_suite("games", {"arm": "plain"}, config)
        return self._ood_suite()

    def _ood_suite(self) -> Suite:
        """In the environment of the candidate's round."""
        suite, config = self.part.removeprefix("ood/"), self.candidate.config
        return make_suite(suite, config.evaluate.ood[suite], config)

    @property
    def _plays(self) -> HeldOutPlay | None:
        """The episodes of a suite that generates new ones; None if its questions are fixed."""
        found = getattr(self._suite, "episodes", None)
        return found if isinstance(found, HeldOutPlay) else None

    def _play(self, number: int, drawn: HeldOutPlay) -> list[Trajectory]:
        path = self.folder / self.part / f"{round_name(number)}.jsonl"
        planned = {plan.id for plan in drawn.plans}
        done = [episode for episode in recover_jsonl(path, Trajectory) if episode.id in planned]
        if len(done) == len(planned):
            return _in_order(done, drawn)
        knowledge: KnowledgeFor | None = getattr(self._suite, "knowledge", None)
        policy = self.context.policy(
            self.candidate.at(number).model(), self.candidate.config.model, self.candidate.config.runner
        )
        with JsonlWriter(path) as writer:
            return drawn.run(policy, knowledge=knowledge, done=done, on_episode=writer.append)

    def _evaluated(self, number: int) -> list[Trajectory]:
        """The episodes of a finished evaluation by id; of cases only those that no earlier trial used."""
        own, stage = (measurement(self.candidate, one, self.part) for one in (self.candidate.number, number))
        if differences(own.manifest().key.config, stage.manifest().key.config):
            return self._answered_again(number)
        episodes = sorted(read_episodes(stage.path), key=lambda episode: episode.id)  # recorded as they ended
        if self.part != "held_out":
            return episodes
        new = {case.id for case in read_cases(self.candidate.cases()) if case.round == self.candidate.number}
        return [episode for episode in episodes if episode.id in new]

    def _answered_again(self, number: int) -> list[Trajectory]:
        """A baseline's answers to the questions as they are in the candidate's round."""
        suite, config = self._ood_suite(), self.candidate.config
        folder = self.folder / self.part / round_name(number)
        folder.mkdir(parents=True, exist_ok=True)
        policy = self.context.policy(
            self.candidate.at(number).model(), model_settings(suite, config.model), config.runner
        )
        run_suite(suite, policy, folder, self.context.on_progress)
        return sorted(read_episodes(folder), key=lambda episode: episode.id)


def _in_order(done: Iterable[Trajectory], drawn: HeldOutPlay) -> list[Trajectory]:
    by_id = {episode.id: episode for episode in done}
    return [by_id[plan.id] for plan in drawn.plans]
