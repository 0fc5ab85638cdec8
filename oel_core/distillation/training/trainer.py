"""Context distillation (arXiv 2603.16856 and 2602.12275) as a TRL trainer."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase, PrinterCallback, set_seed

from oel_core.compat.trl import DistillationConfig, DistillationTrainer
from oel_core.config.run import DistillConfig
from oel_core.distillation.data.dataset import Step, max_sequence_length
from oel_core.distillation.distributed.ranks import Ranks
from oel_core.distillation.distributed.sharding import shard_like
from oel_core.distillation.objectives.retention import Retention
from oel_core.distillation.regimes import make_regime
from oel_core.distillation.stability.backtracks import RATE
from oel_core.distillation.stability.monitor import StabilityMonitor
from oel_core.distillation.teachers.frozen import Teacher
from oel_core.distillation.training.checkpoints import (
    TrainingState,
    load_checkpoint,
    restore_rng,
    rng_state,
    step_of,
    with_scaled_rate,
)
from oel_core.distillation.training.rollouts import Sampler, Tokens
from oel_core.distillation.training.step_records import read_steps
from oel_core.distillation.training.step_runner import Outputs, StepRunner
from oel_core.distillation.training.step_update import StepUpdate
from oel_core.distillation.training.update import check_vocabulary
from oel_core.errors import ArtifactError
from oel_core.models.adapters import plain_model

_TRAINER_STATE = "trainer_state.json"


def disable_base_dropout(model: nn.Module) -> None:
    """Sets every dropout except an adapter's to 0, so that rollouts and loss come from the same policy."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout) and "lora_dropout" not in name:
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):  # not a module in most architectures
            module.attention_dropout = 0.0


class ContextDistillationTrainer(DistillationTrainer):
    """On-policy context distillation: the teacher's prompt contains the knowledge, the student's does not.

    Built on `trl.DistillationTrainer`, TRL's on-policy distillation, whose `teacher_model` may be left out by
    subclasses that bring a teacher of their own. The phases of a step are listed in `StepRunner`.

    Inherited: the training loop on accelerate (AdamW with its weight decay groups, gradient clip, schedule, mixed
    precision, position in the data, logging, callbacks) and its configuration.

    Overridden:

    - `training_step`: TRL's generates with one random generator for a whole batch, gives both models the same prompt,
      and computes generalised JSD over a padded batch. Here each sample has a seed of its own, the teacher's prompt is
      longer by the knowledge, and loss and gradient come from `update.accumulate_gradients`.
    - `get_train_dataloader`: an item is one whole step, and every process reads every step, because `Ranks` divides a
      step by its tokens. Accumulation is off: micro-batches are formed inside a step, each loss divided by the response
      tokens of the *whole* step, so their size changes memory and time, not the result.
    - `_save_checkpoint`, `_load_from_checkpoint`, `_load_optimizer_and_scheduler`, `_load_rng_state`: called at the
      same moments, but safetensors and JSON instead of pickles, folders published by a rename, whole tensors whatever
      the number of processes, and the weights of a moving teacher.
    - `floating_point_ops`, `_send_telemetry`, `_sync_replicated_trainable_parameters`: no-ops.

    Why not `trl.experimental.sdft.SDFTTrainer`, whose teacher has its own prompt: it truncates teacher prompts at
    the student's `max_prompt_length`; its top-k loss renormalises or adds a tail, where the paper's does neither; it
    takes the mean of per-sample means, where the paper takes one mean over all tokens; and its teacher for LoRA is the
    base model, which is wrong from the second round on.

    Args:
        student: causal language model on its device; its trainable parameters are updated.
        tokenizer: the student's, with a padding token.
        teacher: computes the target distribution.
        reference: the reference model, if retention terms need one.
        steps: the samples of each optimiser step, in order.
        config: the distillation's settings.
        tokens: padding and stop tokens.
        outputs: step log, checkpoints and progress callback.
        ranks: the process group.
        sampler: generates responses.
        mixed: float32 weights, bfloat16 compute.
        seed: of the global random generators, which adapter dropout uses.
    """

    def __init__(
        self,
        student: Any,
        tokenizer: PreTrainedTokenizerBase,
        teacher: Teacher,
        reference: Teacher | None,
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
        disable_base_dropout(student)
        arguments = _arguments(student, config, len(steps), outputs, mixed=mixed, seed=seed)
        self._init_trl(student, tokenizer, arguments, steps)
        self.teacher, self.tokens, self.outputs = teacher, tokens, outputs
        self.distill_config, self.ranks, self.sampler = config, ranks, sampler
        self.is_distributed_loading_by_transformers = ranks.world_size > 1  # no DDP wrapper: `ranks` sums the gradients
        self.student = ranks.make_student(self.model, config, max_sequence_length(steps, config))
        check_vocabulary(self.student, teacher)
        known = [step.samples for step in steps] if ranks.world_size == 1 else ()
        self.regime = make_regime(self.model, teacher, config, sampler, known)
        retention = None if reference is None else Retention(self.student, reference, config, sampler, ranks, tokenizer)
        self.step_update = StepUpdate(self.student, self.regime, retention, config, ranks)
        self.monitor = StabilityMonitor(
            config, self.student.split.vocabulary, outputs.checkpoints, outputs.backtracks, ranks
        )
        self.runner = StepRunner(self.regime, teacher, self.step_update, self.monitor, outputs, ranks)
        self.add_callback(self.runner)

    def _init_trl(
        self, student: Any, tokenizer: PreTrainedTokenizerBase, arguments: DistillationConfig, steps: Sequence[Step]
    ) -> None:
        """The base class's constructor, without its side effects on the model's configuration.

        It gets the transformers model, which contains the adapter's layers, because it rejects an adapter on the output
        projection, which its own loss does not support. It also writes the padding token into the model's
        configuration: this would be saved with the student, and a loaded embedding then excludes the padding row from
        the gradient.
        """
        plain = plain_model(student)
        configs: tuple[Any, ...] = (plain.config.get_text_config(), plain.generation_config)
        padding = [config.pad_token_id for config in configs]
        super().__init__(model=plain, args=arguments, train_dataset=cast(Any, list(steps)), processing_class=tokenizer)
        for config, token in zip(configs, padding, strict=True):
            config.pad_token_id = token
        self.processing_class = None  # otherwise the training loop aligns the configurations again
        self.model = self.model_wrapped = student
        self.remove_callback(PrinterCallback)
        set_seed(arguments.seed)  # the same on all ranks, so that any world size resumes from one state

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """As `StepRunner.run`."""
        return self.runner.run(inputs["step"], model)

    def get_train_dataloader(self) -> DataLoader:
        """The steps in order, one per item, on every rank."""
        return DataLoader(cast(Any, self.train_dataset), batch_size=1, shuffle=False, collate_fn=_as_inputs)

    def floating_point_ops(self, inputs: Any) -> int:
        """0: the base class's estimate assumes one forward per step."""
        return 0

    def _send_telemetry(self) -> None:
        """No telemetry."""

    def _sync_replicated_trainable_parameters(self, model: nn.Module) -> None:
        """No-op: all ranks load the same files, and `ranks` sums the gradients."""

    def _trainable(self) -> dict[str, nn.Parameter]:
        model = self.accelerator.unwrap_model(self.model)
        return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}

    def _plain_optimizer(self) -> torch.optim.Optimizer:
        assert isinstance(self.optimizer, AcceleratedOptimizer)
        return self.optimizer.optimizer

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Skipped while a metric is out of bounds, so that the last good checkpoint is kept."""
        if not self.monitor.within_bounds:
            return
        assert self.lr_scheduler is not None
        state = TrainingState(
            step=self.state.global_step,
            weights=self.ranks.full_tensors(self._trainable()),
            optimiser=self._optimiser_state(),
            scheduler=self.lr_scheduler.state_dict(),
            rng=rng_state(),
            teacher=self.teacher.state(),
        )
        if self.ranks.rank == 0:
            self.outputs.checkpoints.save(state, lambda folder: self.state.save_to_json(str(folder / _TRAINER_STATE)))
        self.ranks.wait()

    def _optimiser_state(self) -> dict[str, Any]:
        """Optimizer state. Without one torch takes a step with zero gradients first, which is undone here."""
        optimiser = self._plain_optimizer()
        unused = not optimiser.state
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        found = get_optimizer_state_dict(self.accelerator.unwrap_model(self.model), optimiser, options=options)
        if unused:
            optimiser.state.clear()
            return {**found, "state": {}}
        return dict(found)

    def run(self) -> None:
        """Trains to the last step, from the newest checkpoint or from the start."""
        newest = self.outputs.checkpoints.latest()
        if self.ranks.rank == 0:
            self.outputs.checkpoints.sweep()
            self.outputs.log.cut_after(step_of(newest))
        self.ranks.wait()
        self.monitor.begin(read_steps(self.outputs.log.path))
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
                weight.copy_(shard_like(weights[name], weight))
        self.teacher.load_state(state.teacher)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        assert self.lr_scheduler is not None
        state = with_scaled_rate(load_checkpoint(Path(checkpoint)), self.monitor.pending_rate_factor())
        set_optimizer_state_dict(
            self.accelerator.unwrap_model(self.model),
            self._plain_optimizer(),
            dict(state.optimiser),
            options=StateDictOptions(full_state_dict=True, strict=False),  # parameters that never had a gradient
        )
        if not state.optimiser["state"]:
            self._plain_optimizer().state.clear()  # as in `_optimiser_state`
        self.lr_scheduler.load_state_dict(dict(state.scheduler))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            restore_rng(load_checkpoint(Path(checkpoint)).rng)


def _as_inputs(items: list[Step]) -> dict[str, Step]:
    """One step as a mapping, which the training loop requires of a batch."""
    return {"step": items[0]}


class _Arguments(DistillationConfig):
    """TRL's configuration with one GPU per process; never `torch.nn.DataParallel`."""

    @property
    def n_gpu(self) -> int:
        return min(int(super().n_gpu), 1)


def _schedule_arguments(config: DistillConfig, steps: int) -> dict[str, Any]:
    """What transformers' schedule of that name needs besides the number of steps."""
    if config.schedule != "warmup_stable_decay":
        return {}
    return {"num_decay_steps": math.ceil(steps / 3), "decay_type": "linear"}


def _arguments(
    student: Any, config: DistillConfig, steps: int, outputs: Outputs, *, mixed: bool, seed: int
) -> DistillationConfig:
    """The training loop's settings; all others keep their defaults."""
    return _Arguments(
        output_dir=str(outputs.checkpoints.root),
        max_steps=steps,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=1,
        gradient_checkpointing=False,  # enabled in the student's forward, by `distill.gradient_checkpointing`
        optim="adamw_torch",
        learning_rate=config.learning_rate * RATE ** len(outputs.backtracks.read()),
        lr_scheduler_type=config.schedule,
        lr_scheduler_kwargs=_schedule_arguments(config, steps),
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
        use_cpu=next(student.parameters()).device.type == "cpu",
        dataloader_pin_memory=False,
        seed=seed % 2**32,
    )
