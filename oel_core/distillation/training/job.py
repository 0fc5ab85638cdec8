"""The serialisable arguments of one distillation, and the construction of its student, steps and trainer."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from oel_core.config.knowledge import InjectionConfig
from oel_core.config.run import DistillConfig, ModelConfig
from oel_core.config.serving import affects_results
from oel_core.distillation.data.context import drop_long_prompts, write_left_out
from oel_core.distillation.data.dataset import Step, build_steps, check_context, max_sequence_length
from oel_core.distillation.data.replay import add_replay, digest_replay
from oel_core.distillation.distributed.ranks import Ranks
from oel_core.distillation.objectives.retention import make_reference
from oel_core.distillation.stability.backtracks import BacktrackLog
from oel_core.distillation.teachers.configured import make_teacher
from oel_core.distillation.teachers.shared_prefix import find_prefixes
from oel_core.distillation.training.checkpoints import CheckpointFolder
from oel_core.distillation.training.rollouts import Tokens
from oel_core.distillation.training.step_records import OnStep, StepLog
from oel_core.distillation.training.vllm_rollouts import make_sampler
from oel_core.errors import ArtifactError, ConfigError
from oel_core.models.adapters import ADAPTER, add_lora, is_lora
from oel_core.models.checkpoints import model_digest, read_json
from oel_core.models.loading import load_model
from oel_core.policies.hf.policy import stop_token_ids
from oel_core.policies.text.chat import prompt_ids
from oel_core.prompts.injection import GLOBAL
from oel_core.runs.files import write_atomic, writing
from oel_core.runs.jsonl import jsonl_bytes
from oel_core.runs.manifest import differences, digest_bytes, flatten
from oel_core.seeds import derive_seed
from oel_core.types import Knowledge, PartialRollout, Record

if TYPE_CHECKING:
    from oel_core.distillation.training.trainer import ContextDistillationTrainer


class Job(Record):
    """The arguments of one distillation (see `distill`). Passed to worker processes as JSON."""

    model: ModelConfig
    start: str
    steps: tuple[tuple[PartialRollout, ...], ...]
    knowledge: tuple[Knowledge, ...]
    config: DistillConfig
    workdir: Path
    seed: int
    weights: tuple[float, ...] | None = None
    responses: dict[str, tuple[int, ...]] | None = None
    injection: InjectionConfig = GLOBAL

    @property
    def target(self) -> Path:
        """Folder of the new checkpoint."""
        return self.workdir / "checkpoint"

    @property
    def log(self) -> StepLog:
        return StepLog(self.workdir / "steps.jsonl")

    @property
    def checkpoints(self) -> CheckpointFolder:
        return CheckpointFolder(self.workdir / "resume", self.config.keep_checkpoints)

    @property
    def backtracks(self) -> BacktrackLog:
        return BacktrackLog(self.workdir / "backtracks.jsonl")

    @property
    def mixed(self) -> bool:
        """Whether float32 master weights are kept with bfloat16 compute (full fine-tuning of a bfloat16 model)."""
        return self.model.dtype == "bfloat16" and self.model.lora is None

    def require_same_inputs(self) -> None:
        """Records the inputs on the first call; raises where a resumed distillation has other inputs."""
        settings = {"model": self.model.model_dump(mode="json", exclude={"path", "device"})}
        settings["distill"] = self.config.model_dump(mode="json")
        inputs = {path: value for path, value in flatten(settings).items() if affects_results(path)} | {
            "seed": self.seed,
            "start": model_digest(self.start),
            "prompts": digest_bytes(b"\n".join(map(jsonl_bytes, self.steps))),
            "knowledge": digest_bytes(jsonl_bytes(self.knowledge)),
            "weights": None if self.weights is None else list(self.weights),
        }
        if self.injection != GLOBAL:
            inputs |= flatten({"injection": self.injection.model_dump(mode="json")})
        if self.responses is not None:
            inputs["responses"] = digest_bytes(json.dumps({k: list(v) for k, v in self.responses.items()}).encode())
        if self.config.retention.replay is not None:
            inputs["replay"] = digest_replay(self.config.retention.replay)
        path = self.workdir / "inputs.json"
        if not path.exists():
            with writing(path):
                write_atomic(path, json.dumps(inputs, indent=1).encode())
            return
        changes = differences(read_json(path), inputs)
        if changes:
            raise ArtifactError(
                f"{self.workdir} holds a distillation with other inputs:\n  " + "\n  ".join(changes) + "\n"
                "Undo the change, or delete that folder to distil again."
            )

    def load_student(self) -> tuple[Any, Any]:
        """The student, with an adapter where `model.lora` is set, and its tokenizer."""
        loaded = self.model.model_copy(update={"dtype": "float32"}) if self.mixed else self.model
        student, tokenizer = load_model(self.start, loaded)
        return self._with_adapter(student), tokenizer

    def _with_adapter(self, student: Any) -> Any:
        lora = self.model.lora
        if not is_lora(student):
            with torch.random.fork_rng():  # adapter initialisation is random
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
        """The samples of every step; prompts that exceed the context window are left out and recorded."""

        def encode(messages: Sequence[Any]) -> list[int]:
            return prompt_ids(tokenizer, messages, thinking=self.model.thinking)

        knowledge, weights = self.knowledge, self.weights
        if self.config.regime == "sft":
            knowledge, weights = (knowledge[0].model_copy(update={"items": (), "text": "", "tokens": 0}),), None
        own = getattr(student.config, "max_position_embeddings", None) or self.model.max_length
        length = min(self.model.max_length, own)
        max_prompt_tokens = length - self.config.max_response_tokens
        prompts, left_out = drop_long_prompts(self.steps, knowledge, encode, max_prompt_tokens, self.injection)
        write_left_out(self.workdir, left_out)
        steps = build_steps(
            prompts,
            knowledge,
            self.config,
            encode,
            seed=self.seed,
            weights=weights,
            responses=self.responses,
            injection=self.injection,
        )
        check_context(steps, self.config.max_response_tokens, length)
        replay = self.config.retention.replay
        if replay is None:
            return steps
        return add_replay(steps, replay, encode, max_prompt_tokens, seed=self.seed)

    def trainer(
        self, student: Any, tokenizer: Any, steps: Sequence[Step], ranks: Ranks, on_step: OnStep | None
    ) -> "ContextDistillationTrainer":
        """The trainer before its first step."""
        # TRL takes seconds to import: only after the checks above
        from oel_core.distillation.training.step_runner import Outputs
        from oel_core.distillation.training.trainer import ContextDistillationTrainer

        prefixes, max_length = find_prefixes(steps), max_sequence_length(steps, self.config)
        own_dtype = getattr(torch, self.model.dtype)
        teacher = make_teacher(student, own_dtype, prefixes, self.config, max_length)
        tokens = Tokens(tokenizer.pad_token_id or 0, stop_token_ids(student, tokenizer))
        return ContextDistillationTrainer(
            student,
            tokenizer,
            teacher,
            make_reference(student, own_dtype, teacher, prefixes, self.config, max_length),
            steps,
            self.config,
            tokens,
            Outputs(self.log, self.checkpoints, self.backtracks, on_step),
            ranks,
            sampler=make_sampler(self.model, self.start, self.config, tokens, self.workdir),
            mixed=self.mixed,
            seed=self.seed,
        )
