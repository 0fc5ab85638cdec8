"""One round of a run: its stage folders, start and result models, episodes and knowledge."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from oel_core.cases.frozen import CASES
from oel_core.config.run import OelConfig
from oel_core.errors import ArtifactError
from oel_core.models.checkpoints import model_digest
from oel_core.policies.base import Policy
from oel_core.rounds.context import CHECKPOINT, PROMPTS, REPORT, TRAJECTORIES, StageContext
from oel_core.rounds.knowledge import ACCUMULATE, REVIEW, SELECT, DistilledKnowledge, load_distilled, load_files
from oel_core.rounds.stage_folder import StageFolder
from oel_core.runs.folder import WEIGHTS, RunFolder, Work, round_name, stage_key
from oel_core.runs.jsonl import read_jsonl
from oel_core.runs.manifest import Manifest, StageKey, digest_file, freed_files, read_record
from oel_core.runs.round_start import knowledge_before, parent_of, read_start
from oel_core.types import EvalReport, Knowledge, PartialRollout, Split, Trajectory

COLLECT, RECEIVE = "collect", "receive"
"""The stages that give a round its prompts: from episodes, or from a bundle."""


@dataclass(frozen=True)
class Round:
    """A round: configuration, run folder and number. Cheap to construct; nothing is cached."""

    settings: OelConfig
    """Of the whole run."""
    run: RunFolder
    number: int
    """0 is the base model, which is only evaluated."""

    @property
    def config(self) -> OelConfig:
        """The settings of this round: where the environment changes, it is the one of this round."""
        return self.settings.at_round(self.number)

    @property
    def path(self) -> Path:
        """The round's folder."""
        return self.run.path / round_name(self.number)

    def at(self, number: int) -> "Round":
        """Another round of the same run."""
        return replace(self, number=number)

    @property
    def parent(self) -> "Round":
        """The round whose model is this round's start model."""
        return self.at(parent_of(self.run, self.number))

    def stage(self, name: str) -> StageFolder:
        """A stage by its name within the round, like `collect` or `evaluate/held_out`."""
        return StageFolder(self.run, self.number, name)

    def key(self, stage: str, sections: Sequence[str], inputs: Mapping[str, str]) -> StageKey:
        """The key of a stage that depends on these sections of the configuration and these inputs."""
        return stage_key(self.config, self.number, stage, sections, inputs)

    def perform(self, stage: str, sections: Sequence[str], inputs: Mapping[str, str], work: Work) -> Manifest:
        """Runs a stage's work unless it has finished with the same key.

        Raises:
            ArtifactError: the stage, finished or partial, was made with other settings or inputs.
        """
        return self.run.perform(self.key(stage, sections, inputs), work)

    def model(self) -> str:
        """The round's result model: the base model for round 0, else the distilled checkpoint.

        Raises:
            ArtifactError: the round has not been distilled, or its weights were removed.
        """
        if self.number == 0:
            return self.config.model.path
        distilled = self.stage("distill")
        distilled.manifest()
        if any(Path(name).suffix in WEIGHTS for name in freed_files(distilled.path)):
            raise ArtifactError(f"the weights of round {self.number} of {self.run.path} were removed by `oel clean`")
        return str(distilled.path / CHECKPOINT)

    def model_digest(self) -> str:
        """Digest of `model`, as an input of later stages; available also after the weights were removed."""
        return model_digest(self.config.model.path) if self.number == 0 else self.stage("distill").digest()

    def cases(self) -> Path:
        """The round's frozen set of cases; the base model has that of the first round with one.

        Raises:
            ArtifactError: there is none, or it was changed since the round began.
        """
        numbers = [self.number] if self.number else self.run.rounds()
        path = next((path for number in numbers if (path := self.at(number).path / CASES).exists()), None)
        if path is None:
            raise ArtifactError(
                f"{self.path} has no {CASES}: cases are set apart when `oel trigger next-round` begins a round with an "
                "inbox; or set evaluate.held_out to games"
            )
        start = read_start(self.run, int(path.parent.name.removeprefix("round_")))
        if start is not None and start.cases != digest_file(path):
            raise ArtifactError(f"{path} was changed after its round began: restore it from a copy")
        return path

    def start_model(self) -> str:
        """The model that the round starts from. Errors as `model`."""
        return self.parent.model()

    def start_digest(self) -> str:
        """Digest of `start_model`, as an input of the round's stages."""
        return self.parent.model_digest()

    def start_policy(self, context: StageContext) -> Policy:
        """The policy that the round starts from, loaded."""
        return context.policy(self.start_model(), self.config.model, self.config.runner)

    def student(self) -> str:
        """The model that the round's student and teacher start from. Errors as `model`."""
        return self._source(self.config.distill.start).model()

    def student_digest(self) -> str:
        """Digest of `student`, as an input of the distillation."""
        return self._source(self.config.distill.start).model_digest()

    def extractor(self) -> str:
        """The model that extracts the round's knowledge. Errors as `model`."""
        return self._source(self.config.extract.model).model()

    def extractor_digest(self) -> str:
        """Digest of `extractor`, as an input of the extraction."""
        return self._source(self.config.extract.model).model_digest()

    def _source(self, weights: Literal["policy", "base"]) -> "Round":
        """The round whose result model has these weights: the parent, or round 0 for the base model's."""
        return self.at(0) if weights == "base" else self.parent

    def trajectories(self, split: Split) -> list[Trajectory]:
        """The episodes that the round collected for `split`, ordered by replica and index.

        Raises:
            ArtifactError: their file was removed, is missing or is damaged.
        """
        collected = self.stage(COLLECT).path
        if TRAJECTORIES in freed_files(collected):
            raise ArtifactError(f"the episodes of round {self.number} of {self.run.path} were removed by `oel compact`")
        path = collected / TRAJECTORIES
        chosen = [episode for episode in read_jsonl(path, Trajectory) if episode.split is split]
        return sorted(chosen, key=lambda episode: (episode.replica, episode.index))

    def prompts_stage(self) -> StageFolder:
        """The stage with the prompts that are distilled."""
        return self.stage(COLLECT if self.config.experience.bundle is None else RECEIVE)

    def received_prompts(self) -> list[PartialRollout]:
        """The prompts of the round's bundle, episode by episode. ArtifactError: the file is missing or corrupt."""
        return list(read_jsonl(self.stage(RECEIVE).path / PROMPTS, PartialRollout))

    def extraction_episodes(self) -> dict[int, list[Trajectory]]:
        """The episodes that each replica's knowledge is extracted from, in order."""
        episodes = self.trajectories(Split.EXTRACT)
        return {
            replica: [episode for episode in episodes if episode.replica == replica]
            for replica in range(self.config.collect.replicas)
        }

    def merged_stage(self) -> StageFolder:
        """The stage with the K knowledge files: `review` with a human reviewer, else `accumulate`."""
        return self.stage(REVIEW if self.config.review.mode == "required" else ACCUMULATE)

    def merged_knowledge(self) -> list[Knowledge]:
        """The K knowledge files. ArtifactError: one is missing, edited, or over the token cap."""
        return load_files(self.merged_stage(), self.config.knowledge_cap)

    def distilled_stage(self) -> StageFolder:
        """The stage with the knowledge that is distilled."""
        return self.merged_stage() if self.config.knowledge.selection.use == "all" else self.stage(SELECT)

    def knowledge(self) -> DistilledKnowledge:
        """The knowledge that is distilled, without empty files.

        Raises:
            ArtifactError: a file is missing, edited, or over the token cap.
        """
        return load_distilled(self.distilled_stage(), self.config.knowledge_cap)

    def previous_stage(self) -> StageFolder | None:
        """The stage of an earlier round whose knowledge this round continues; None: it starts without knowledge.

        Depends on that round's files, not on its settings, which may have changed since.
        """
        number = knowledge_before(self.run, self.number) if self.config.knowledge.carry_over else None
        if number is None:
            return None
        left = [self.at(number).stage(name) for name in (SELECT, REVIEW, ACCUMULATE)]
        return next((stage for stage in left if stage.finished), left[-1])

    def previous_input(self) -> dict[str, str]:
        """The digest of the previous knowledge, as a stage input; empty where there is none."""
        before = self.previous_stage()
        return {} if before is None else {"previous_knowledge": before.digest()}

    def previous_knowledge(self) -> dict[int, Knowledge]:
        """Every replica's previous knowledge: its own file or, where only some were selected, one of those in turn.

        Files that were not selected are dropped; an empty file stays empty. No file where the round starts without
        knowledge.

        Raises:
            ArtifactError: a file is missing, edited, or over the token cap.
        """
        before = self.previous_stage()
        if before is None:
            return {}
        files = load_files(before, self.config.knowledge_cap)
        own = {file.replica: file for file in files}
        return {
            replica: own.get(replica, files[replica % len(files)]).model_copy(
                update={"replica": replica, "validation_score": None}
            )
            for replica in range(self.config.collect.replicas)
        }

    def report(self, part: str) -> EvalReport | None:
        """The report of one part of the round's evaluation, or None when it has not finished."""
        stage = self.stage(f"evaluate/{part}")
        if not stage.finished:
            return None
        return read_record(stage.path / REPORT, EvalReport)
