"""Context distillation (arXiv 2603.16856 and 2602.12275) on TRL's base trainer.

Why TRL's base and not `trl.experimental.sdft.SDFTTrainer`, the nearest method: everything in SDFT beyond that base
would have to be overridden, and what was forgotten would go wrong silently. It cuts teacher prompts at the student's
`max_prompt_length`; its top-k loss renormalises or adds a tail, where the paper's does neither; it takes the mean of
per-sample means, where the paper takes one mean over all tokens; its teacher for LoRA is the bare base, wrong from the
second round on; and its sampling draws from the global generator, so a batch cannot be drawn again on its own. The
base keeps what is worth having: the transformers training loop (AdamW groups, clipping, schedule, callbacks) on
accelerate. How several processes share a step is in `ranks`.

One item of the training set is one whole step, so the loop's "batch" is the step and its accumulation is off: the
micro-batches are made in `update`, each loss divided by the response tokens of the *whole* step. Their size therefore
changes memory and time, not the result. Checkpoints replace the base's own, which are pickles.
"""

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PrinterCallback, TrainingArguments
from trl.trainer.base_trainer import _BaseTrainer

from oel_core.config.run import DistillConfig
from oel_core.distillation.data.dataset import Step, longest
from oel_core.distillation.distributed.ranks import Ranks
from oel_core.distillation.distributed.sharding import divided_like, divided_optimiser, whole_optimiser
from oel_core.distillation.objectives.retention import Retention
from oel_core.distillation.regimes import make_regime
from oel_core.distillation.stability.backtracks import RATE, BacktrackLog
from oel_core.distillation.stability.watch import Watch
from oel_core.distillation.teachers.frozen import Teacher
from oel_core.distillation.training.checkpoints import (
    CheckpointFolder,
    TrainingState,
    load_checkpoint,
    restore_rng,
    rng_state,
    scale_rate,
    step_of,
)
from oel_core.distillation.training.rollouts import Rollout, Sampler, Tokens
from oel_core.distillation.training.step_metrics import StepMetrics
from oel_core.distillation.training.step_records import OnStep, StepLog, read_steps
from oel_core.distillation.training.step_update import StepLoss, StepUpdate
from oel_core.distillation.training.update import check_vocabulary
from oel_core.errors import ArtifactError, DistillationError, PolicyError

logger = logging.getLogger(__name__)
_TRAINER_STATE = "trainer_state.json"


@dataclass(frozen=True)
class Outputs:
    """Where a distillation writes and whom it tells."""

    log: StepLog
    checkpoints: CheckpointFolder
    backtracks: BacktrackLog
    on_step: OnStep | None = None


def disable_base_dropout(model: nn.Module) -> None:
    """The student's distribution must be the one it samples from; only an adapter's own dropout stays."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout) and "lora_dropout" not in name:
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):  # not a module in most architectures
            module.attention_dropout = 0.0


class ContextDistillationTrainer(_BaseTrainer):
    """Trains a student towards a teacher that reads knowledge: by default its own frozen round-start self.

    Args:
        student: causal language model on its device; its trainable parameters are what learns.
        teacher: whom it learns from.
        anchor: the round-start model, if retention terms need it.
        steps: the samples of each optimiser step, in order.
        config: the distillation's settings.
        tokens: padding and stop tokens.
        outputs: log, checkpoints and progress callback.
        ranks: the processes that share the work.
        sampler: how responses are drawn.
        mixed: the student keeps float32 weights and computes in bfloat16.
        seed: of the generators that adapter dropout draws from.
    """

    def __init__(
        self,
        student: Any,
        teacher: Teacher,
        anchor: Teacher | None,
        steps: Sequence[Step],
        config: DistillConfig,
        tokens: Tokens,
        outputs: Outputs,
        ranks: Ranks,
        *,
        sampler: Sampler,
        mixed: bool,
        seed: int,
    ) -> None:
        self.teacher = teacher
        self.distill_config = config
        self.tokens = tokens
        self.outputs = outputs
        self.ranks, self.sampler = ranks, sampler
        self._metrics: StepMetrics | None = None
        disable_base_dropout(student)
        super().__init__(
            model=student,
            args=_arguments(student, config, len(steps), outputs, mixed=mixed, seed=seed),
            train_dataset=cast(Any, list(steps)),
        )
        self.remove_callback(PrinterCallback)
        self.is_distributed_loading_by_transformers = ranks.count > 1  # no wrapper: gradients are added up here
        self.student = ranks.make_student(self.model, config, longest(steps, config))
        self.regime = make_regime(self.model, teacher, config, sampler)
        retention = Retention(self.student, anchor, config, sampler, ranks) if anchor is not None else None
        self.step_update = StepUpdate(self.student, self.regime, retention, config, ranks)
        check_vocabulary(self.student, teacher)
        vocabulary = self.student.split.vocabulary
        self.watch = Watch(config, vocabulary, outputs.checkpoints, outputs.backtracks, ranks)

    def _send_telemetry(self) -> None:
        """Nothing leaves the machine."""

    def _sync_replicated_trainable_parameters(self, model: nn.Module) -> None:
        """Every process has read the same files, and `ranks` adds gradients up."""

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted: a step's forwards differ in kind."""
        return 0

    def get_train_dataloader(self) -> DataLoader:
        """The steps in their order, one at a time."""
        return DataLoader(cast(Any, self.train_dataset), batch_size=1, shuffle=False, collate_fn=_as_inputs)

    # ---- one step ----

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Rollouts, then loss and gradient over micro-batches. Returns the mean loss per response token, a scalar.

        Raises:
            DistillationError: the loss or divergence is not finite; nothing has been updated then.
        """
        step: Step = inputs["step"]
        started = time.perf_counter()
        self.ranks.begin_step(model)
        self._metrics = metrics = StepMetrics(step, self._roll_out(step), started)
        model.train()
        metrics.learnt = self._learn(step, metrics.rollouts)
        if broken := metrics.broken():
            raise self._stopped(step, broken, "the loss or divergence is not finite")
        self.ranks.end_step(model)
        return metrics.loss

    def _roll_out(self, step: Step) -> list[Rollout]:
        try:
            rollouts = self.ranks.roll_out(step.samples, self.regime.roll_out)
        except PolicyError as error:
            raise self._stopped(step, [sample.id for sample in step.samples], str(error)) from error
        if empty := [rollout.sample.id for rollout in rollouts if not rollout.response]:
            raise self._stopped(step, empty, "responses are empty")
        return rollouts

    def _learn(self, step: Step, rollouts: Sequence[Rollout]) -> StepLoss:
        try:
            return self.step_update.accumulate(rollouts, step.replay)
        except PolicyError as error:
            raise self._stopped(step, [sample.id for sample in step.replay], str(error)) from error

    def _stopped(self, step: Step, samples: Sequence[str], reason: str) -> DistillationError:
        good = self.outputs.checkpoints.latest()
        shown = ", ".join(samples[:8]) + (f" and {len(samples) - 8} more" if len(samples) > 8 else "")
        return DistillationError(
            f"distillation stopped at step {step.number}: {reason}. Samples: {shown}. "
            f"Last good checkpoint: {good or 'none yet, the start of the round'}. "
            "Lower distill.learning_rate, or look at these samples"
        )

    # ---- after the update ----

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """The loop's report of an update becomes one line of the step log; its summary at the end is dropped.

        Raises:
            DistillationError: the gradient was not finite. The spoilt weights are not saved.
            UnstableError: the student has left its bounds. What it was before is saved.
        """
        if "grad_norm" not in logs:
            return
        assert self._metrics is not None
        if not math.isfinite(logs["grad_norm"]):
            names = [sample.id for sample in self._metrics.step.samples]
            raise self._stopped(self._metrics.step, names, "the gradient is not finite")
        self.teacher.follow()
        masses = self.regime.objective.support == "top_k"
        record = self._metrics.record(
            logs["grad_norm"], logs["learning_rate"], masses=masses, backtracks=self.watch.backtracks
        )
        if self.ranks.index == 0:
            self.outputs.log.append(record)
            logger.info("step %d: loss %.5f, entropy %.3f", record.step, record.loss, record.entropy)
            if self.outputs.on_step is not None:
                self.outputs.on_step(record)
        self.watch.look(record)

    # ---- checkpoints: same moments as the base's, but no pickle and published whole ----

    def _trainable(self) -> dict[str, nn.Parameter]:
        model = self.accelerator.unwrap_model(self.model)
        return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Nothing is saved while a signal is out of its bounds: the checkpoints before it must stay."""
        if not self.watch.sound:
            return
        assert self.optimizer is not None
        assert self.lr_scheduler is not None
        state = TrainingState(
            step=self.state.global_step,
            weights=self.ranks.whole(self._trainable()),
            optimiser=whole_optimiser(self.optimizer.state_dict(), self.ranks),
            scheduler=self.lr_scheduler.state_dict(),
            rng=rng_state(),
            teacher=self.teacher.state(),
        )
        if self.ranks.index == 0:
            self.outputs.checkpoints.save(state, lambda folder: self.state.save_to_json(str(folder / _TRAINER_STATE)))
        self.ranks.wait()

    def run(self) -> None:
        """Trains to the end, from the newest checkpoint or from the start."""
        newest = self.outputs.checkpoints.latest()
        if self.ranks.index == 0:
            self.outputs.checkpoints.sweep()
            self.outputs.log.cut_after(step_of(newest))
        self.ranks.wait()
        self.watch.begin(read_steps(self.outputs.log.path))
        self.train(resume_from_checkpoint=str(newest) if newest else None)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        state = load_checkpoint(Path(resume_from_checkpoint))
        weights = state.weights
        trainable = self._trainable()
        if weights.keys() != trainable.keys():
            differing = sorted(weights.keys() ^ trainable.keys())
            raise ArtifactError(
                f"{resume_from_checkpoint} is of another model: {len(differing)} weights differ, like {differing[0]}"
            )
        with torch.no_grad():
            for name, weight in trainable.items():
                weight.copy_(divided_like(weights[name], weight))
        self.teacher.load_state(state.teacher)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        assert self.optimizer is not None
        assert self.lr_scheduler is not None
        state = load_checkpoint(Path(checkpoint))
        self.optimizer.load_state_dict(divided_optimiser(state.optimiser, self.optimizer))
        self.lr_scheduler.load_state_dict(dict(state.scheduler))
        scale_rate(self.optimizer, self.lr_scheduler, self.watch.unapplied())

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            restore_rng(load_checkpoint(Path(checkpoint)).rng)


def _as_inputs(items: list[Step]) -> dict[str, Step]:
    """One step as the loop hands a batch around: it wants a mapping."""
    return {"step": items[0]}


def _arguments(
    student: Any, config: DistillConfig, steps: int, outputs: Outputs, *, mixed: bool, seed: int
) -> TrainingArguments:
    """The base loop's settings; whatever is not named here keeps its default."""
    device = next(student.parameters()).device
    arguments = TrainingArguments(
        output_dir=str(outputs.checkpoints.root),
        max_steps=steps,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=1,
        optim="adamw_torch",
        learning_rate=config.learning_rate * RATE ** len(outputs.backtracks.read()),
        lr_scheduler_type=config.schedule,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        bf16=mixed,
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=config.checkpoint_every,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        use_cpu=device.type == "cpu",
        dataloader_pin_memory=False,
        seed=seed % 2**32,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # more GPUs mean more processes, never the base's DataParallel
    return arguments
