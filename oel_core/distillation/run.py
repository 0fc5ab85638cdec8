"""Consolidation of one round: partial rollouts and knowledge in, a checkpoint out; resumes where it was killed.

    distill(model=config.model, start="seed-lm", steps=steps, knowledge=knowledge, config=config.distill,
            workdir=folder, seed=seed)

The folder then holds `checkpoint/`, `steps.jsonl` and `inputs.json` (what the work was begun with). While it works it
also holds `resume/`: the newest checkpoints of weights, optimiser, schedule, generators and position.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from oel_core.checkpoints import read_json
from oel_core.config import DistillConfig, ModelConfig
from oel_core.distillation.dataset import Step, build_steps, check_context, check_knowledge, check_responses, longest
from oel_core.distillation.engines import make_sampler
from oel_core.distillation.records import StepLog, StepRecord
from oel_core.distillation.replay import add_replay, digest_replay
from oel_core.distillation.resume import CheckpointFolder, publish
from oel_core.distillation.retention import make_anchor
from oel_core.distillation.rollouts import Tokens
from oel_core.distillation.shared_prefix import find_prefixes
from oel_core.distillation.teachers import make_teacher
from oel_core.errors import ArtifactError, ConfigError, DistillationError
from oel_core.files import write_atomic
from oel_core.jsonl import jsonl_bytes
from oel_core.manifest import differences, digest_bytes, flatten
from oel_core.models import ADAPTER, add_lora, is_lora, load_model, model_digest, save_model
from oel_core.policies.chat import prompt_ids
from oel_core.policies.transformers import stop_token_ids
from oel_core.policy_config import decides
from oel_core.seeds import derive_seed
from oel_core.types import Knowledge, PartialRollout

if TYPE_CHECKING:
    from oel_core.distillation.trainer import ContextDistillationTrainer

OnStep = Callable[[StepRecord], None]


def distill(
    *,
    model: ModelConfig,
    start: str,
    steps: Sequence[Sequence[PartialRollout]],
    knowledge: Sequence[Knowledge],
    config: DistillConfig,
    workdir: Path,
    seed: int,
    weights: Sequence[float] | None = None,
    responses: Mapping[str, Sequence[int]] | None = None,
    allow_empty: bool = False,
    on_step: OnStep | None = None,
) -> Path:
    """Distils `knowledge` into the weights of `start` and returns the folder of the new checkpoint.

    Call it again with the same arguments after a kill: it goes on from its newest checkpoint, with the same losses
    and the same final bytes. A finished distillation returns at once.

    Args:
        model: how the model is loaded; `lora` decides what is trained.
        start: checkpoint at the round's start (`seed-lm`, a folder, a hub id): the student's first weights, and the
            frozen teacher's.
        steps: the prompts of each optimiser step.
        knowledge: the round's knowledge files, one of which is drawn for each sample.
        config: the distillation's settings.
        workdir: everything is written here.
        seed: decides draws and responses; give every round its own.
        weights: how often each knowledge file is drawn, relative to the others; None draws all alike.
        responses: collected responses by `<trajectory>/turn<number>`, which the regime `sft` learns from; it leaves
            knowledge unread.
        allow_empty: an empty knowledge file is wanted (`knowledge.allow_empty`).
        on_step: called after each step with its record. What it raises ends the distillation, which can be resumed.

    Raises:
        ExtractionError: no knowledge, or an empty file that is not wanted.
        DistillationError: no prompts, prompts that do not fit the context, a tokenizer that does not fit the model,
            or a loss that is not finite.
        ConfigError: `model.lora` does not go with `start`.
        ArtifactError: the folder was begun with other inputs, or what it holds is damaged.
    """
    check_knowledge(knowledge, allow_empty=allow_empty or config.regime == "sft")
    check_responses(steps, responses, config)
    job = _Job(model, start, steps, knowledge, config, workdir, seed, weights, responses)
    job.require_same_inputs()
    target = workdir / "checkpoint"
    if not target.exists():
        student, tokenizer = job.load_student()
        trainer = job.trainer(student, tokenizer, job.build_steps(student, tokenizer), on_step)
        with closing(trainer.sampler):
            trainer.run()

        def write(folder: Path) -> None:
            save_model(student, tokenizer, folder)

        publish(target, write)
    job.checkpoints.clear()
    return target


@dataclass(frozen=True)
class _Job:
    """The arguments of one distillation and what follows from them."""

    model: ModelConfig
    start: str
    prompts: Sequence[Sequence[PartialRollout]]
    knowledge: Sequence[Knowledge]
    config: DistillConfig
    workdir: Path
    seed: int
    weights: Sequence[float] | None = None
    responses: Mapping[str, Sequence[int]] | None = None

    @property
    def checkpoints(self) -> CheckpointFolder:
        return CheckpointFolder(self.workdir / "resume", self.config.keep_checkpoints)

    @property
    def mixed(self) -> bool:
        """bfloat16 cannot hold the small steps of full fine-tuning, so weights stay float32 and only maths is not."""
        return self.model.dtype == "bfloat16" and self.model.lora is None

    def require_same_inputs(self) -> None:
        """Remembers what the work was begun with, and refuses to go on with anything else."""
        settings = {"model": self.model.model_dump(mode="json", exclude={"path", "device"})}
        settings["distill"] = self.config.model_dump(mode="json")
        inputs = {path: value for path, value in flatten(settings).items() if decides(path)} | {
            "seed": self.seed,
            "start": model_digest(self.start),
            "prompts": digest_bytes(b"\n".join(map(jsonl_bytes, self.prompts))),
            "knowledge": digest_bytes(jsonl_bytes(self.knowledge)),
            "weights": None if self.weights is None else list(self.weights),
        }
        if self.responses is not None:
            inputs["responses"] = digest_bytes(json.dumps({k: list(v) for k, v in self.responses.items()}).encode())
        if self.config.retention.replay is not None:
            inputs["replay"] = digest_replay(self.config.retention.replay)
        path = self.workdir / "inputs.json"
        if not path.exists():
            write_atomic(path, json.dumps(inputs, indent=1).encode())
            return
        changes = differences(read_json(path), inputs)
        if changes:
            raise ArtifactError(
                f"{self.workdir} was begun with something else:\n  " + "\n  ".join(changes) + "\n"
                "Undo the change, or delete that folder to distil again."
            )

    def load_student(self) -> tuple[Any, Any]:
        """The student with its adapter, if it has one, and the tokenizer."""
        loaded = self.model.model_copy(update={"dtype": "float32"}) if self.mixed else self.model
        student, tokenizer = load_model(self.start, loaded)
        if len(tokenizer) > student.get_input_embeddings().num_embeddings:
            raise DistillationError(
                f"{self.start}: the tokenizer has {len(tokenizer)} tokens, the model only "
                f"{student.get_input_embeddings().num_embeddings}: they do not belong together"
            )
        return self._with_adapter(student), tokenizer

    def _with_adapter(self, student: Any) -> Any:
        lora = self.model.lora
        if not is_lora(student):
            with torch.random.fork_rng():  # the adapter's first weights are random
                torch.manual_seed(derive_seed(self.seed, "lora"))
                return student if lora is None else add_lora(student, lora)
        rank = student.peft_config[ADAPTER].r
        if lora is None or lora.r != rank:
            raise ConfigError(
                f"{self.start} is an adapter of rank {rank}, but model.lora is {lora}: set model.lora.r={rank}, or "
                "start from a full model"
            )
        return student

    def build_steps(self, student: Any, tokenizer: Any) -> list[Step]:
        """Draws and prompts of every step, checked against the context window."""

        def encode(messages: Sequence[Any]) -> list[int]:
            return prompt_ids(tokenizer, messages, thinking=self.model.thinking)

        knowledge, weights = self.knowledge, self.weights
        if self.config.regime == "sft":
            knowledge, weights = [knowledge[0].model_copy(update={"items": (), "text": "", "tokens": 0})], None
        steps = build_steps(
            self.prompts, knowledge, self.config, encode, seed=self.seed, weights=weights, responses=self.responses
        )
        own = getattr(student.config, "max_position_embeddings", None) or self.model.max_length
        room = min(self.model.max_length, own)
        check_context(steps, self.config.max_response_tokens, room)
        replay = self.config.retention.replay
        if replay is None:
            return steps
        return add_replay(steps, replay, encode, room - self.config.max_response_tokens, seed=self.seed)

    def trainer(
        self, student: Any, tokenizer: Any, steps: Sequence[Step], on_step: OnStep | None
    ) -> "ContextDistillationTrainer":
        # TRL takes seconds to import: not before everything has been checked
        from oel_core.distillation.trainer import ContextDistillationTrainer, Outputs

        prefixes, most = find_prefixes(steps), longest(steps, self.config)
        own_dtype = getattr(torch, self.model.dtype)
        teacher = make_teacher(student, own_dtype, prefixes, self.config, most)
        tokens = Tokens(tokenizer.pad_token_id or 0, stop_token_ids(student, tokenizer))
        return ContextDistillationTrainer(
            student,
            teacher,
            make_anchor(student, own_dtype, teacher, prefixes, self.config, most),
            steps,
            self.config,
            tokens,
            Outputs(StepLog(self.workdir / "steps.jsonl"), self.checkpoints, on_step),
            sampler=make_sampler(self.model, self.start, self.config, tokens, self.workdir),
            mixed=self.mixed,
            seed=self.seed,
        )
