"""The peer: TRL's `SDFTTrainer`, its own code from the first line of its step to the last.

What differs from a user's run, all in the peer's favour or needed for equal samples: its generation returns the fixed
responses; its tokenising is not counted; its cap on teacher prompts is lifted; activation checkpointing, which TRL
turns on, is off; its importance ratio, which needs a third forward, is off by its own rule (one generation a step).
Its objective is the closest that it has: reverse KL over the student's top-k, renormalised (it lacks the paper's).
"""

import os
import time
from pathlib import Path
from typing import Any

from datasets import Dataset
from torch import Tensor
from transformers import PrinterCallback

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
from trl.experimental.sdft import SDFTConfig, SDFTTrainer

from tests.benchmarks.contender import StepClock, Update, gradients
from tests.benchmarks.workload import Corpus, Workload, as_text, load_workload_model, word_tokenizer


class FixedResponses(SDFTTrainer):
    """SDFT with given responses in place of generated ones, looked up by prompt."""

    def __init__(self, responses: dict[tuple[int, ...], list[int]], clock: StepClock, **arguments: Any) -> None:
        self._responses = responses
        self._clock = clock
        self.losses: list[float] = []
        super().__init__(**arguments, callbacks=[clock])
        self.remove_callback(PrinterCallback)

    def _send_telemetry(self) -> None:
        """Nothing leaves the machine."""

    def _generate(self, prompt_ids: list[list[int]]) -> tuple[list[list[int]], list[list[int]]]:
        return prompt_ids, [self._responses[tuple(ids)] for ids in prompt_ids]

    def _prepare_training_batch(self, inputs: list[dict[str, Any]]) -> Any:
        started = time.perf_counter()
        batch = super()._prepare_training_batch(inputs)
        self._clock.uncounted += time.perf_counter() - started
        return batch

    def training_step(self, *arguments: Any, **more: Any) -> Tensor:
        loss: Tensor = super().training_step(*arguments, **more)
        self.losses.append(float(loss))
        return loss


def _config(workload: Workload, folder: Path) -> SDFTConfig:
    if workload.samples % workload.peer_micro_batch:
        raise ValueError(f"{workload.samples} samples do not split into peers' batches of {workload.peer_micro_batch}")
    return SDFTConfig(
        output_dir=str(folder / "peer"),
        max_steps=1,
        per_device_train_batch_size=workload.peer_micro_batch,
        gradient_accumulation_steps=workload.samples // workload.peer_micro_batch,
        num_generations=1,
        shuffle_dataset=False,
        max_prompt_length=None,
        max_completion_length=workload.response,
        temperature=workload.temperature,
        distillation_mode="topk_logits",
        distillation_topk=min(workload.top_k, workload.shape.vocabulary),
        distillation_alpha=1.0,
        teacher_model_kind="base",
        teacher_prompt_template="{privileged_context} {prompt}",
        gradient_checkpointing=False,
        bf16=workload.mixed,
        optim="adamw_torch",
        learning_rate=5e-6,
        lr_scheduler_type="constant",
        weight_decay=0.01,
        max_grad_norm=1.0,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=workload.device == "cpu",
        dataloader_pin_memory=False,
    )


class Sdft:
    """The peer as a contender. `folder` holds the model, which it loads twice: student and frozen teacher."""

    def __init__(self, workload: Workload, corpus: Corpus, folder: Path) -> None:
        rows = [
            {"prompt": as_text(text.prompt), "privileged_context": as_text(corpus.knowledge[text.file])}
            for text in corpus.texts
        ]
        model = load_workload_model(folder, workload)
        if not workload.train_head:
            model.get_output_embeddings().requires_grad_(False)
        self._clock = StepClock()
        self._trainer = FixedResponses(
            {tuple(text.prompt): text.response for text in corpus.texts},
            self._clock,
            model=model,
            args=_config(workload, folder),
            train_dataset=Dataset.from_list(rows),
            processing_class=word_tokenizer(workload.shape.vocabulary),
        )

    def update(self) -> Update:
        self._trainer.losses.clear()
        self._trainer.train()
        return Update(self._clock.seconds, sum(self._trainer.losses))

    def gradient(self) -> tuple[float, dict[str, Tensor]]:
        """Its `training_step` over all micro-batches, as its loop calls it."""
        trainer, steps = self._trainer, self._trainer.args.gradient_accumulation_steps
        trainer.current_gradient_accumulation_steps = steps
        rows = next(iter(trainer.get_train_dataloader()))
        loss = sum(float(trainer.training_step(trainer.model, rows, None)) for _ in range(steps))
        return loss, gradients(trainer.model)
