"""Our update as a contender: what `ContextDistillationTrainer` does in a step, with fixed responses."""

import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import Tensor

from oel_core.config.run import DistillConfig
from oel_core.distillation.data.dataset import Sample, Step
from oel_core.distillation.forward.student import Student
from oel_core.distillation.teachers.frozen import FrozenCopy
from oel_core.distillation.teachers.shared_prefix import find_prefixes
from oel_core.distillation.training.rollouts import Rollout
from oel_core.distillation.training.update import accumulate_gradients
from tests.benchmarks.contender import Update, gradients, synchronise
from tests.benchmarks.workload import Corpus, Workload, load_workload_model


def as_rollouts(corpus: Corpus) -> list[Rollout]:
    """The corpus in the trainer's own records."""
    samples = [
        Sample(
            id=f"sample{index}",
            index=index,
            prompt=text.prompt,
            teacher_prompt=corpus.knowledge[text.file] + text.prompt,
            knowledge_index=text.file,
            replica=text.file,
            seed=index,
        )
        for index, text in enumerate(corpus.texts)
    ]
    return [Rollout(sample, text.response, truncated=True) for sample, text in zip(samples, corpus.texts, strict=True)]


class Ours:
    """Our update. `folder` holds the model; the frozen teacher is a copy of it; `layout` is the student's."""

    def __init__(self, workload: Workload, corpus: Corpus, folder: Path, layout: str = "auto") -> None:
        self._workload = workload
        self._config = DistillConfig(
            objective="reverse_kl_top_k",
            top_k=workload.top_k,
            temperature=workload.temperature,
            learning_rate=5e-6,
            student_layout=layout,
        )
        self.rollouts = as_rollouts(corpus)
        self.model = load_workload_model(folder, workload)
        if not workload.train_head:
            self.model.get_output_embeddings().requires_grad_(False)
        prefixes = find_prefixes([Step(1, tuple(rollout.sample for rollout in self.rollouts))])
        dtype = torch.bfloat16 if workload.mixed else self.model.dtype
        self.teacher = FrozenCopy(self.model, dtype, prefixes, self._config)
        self.student = Student(self.model, self._config)
        self.model.train()
        self._trained = [weight for weight in self.model.parameters() if weight.requires_grad]
        self._optimiser = torch.optim.AdamW(
            self._trained, lr=self._config.learning_rate, weight_decay=self._config.weight_decay
        )

    @property
    def forms(self) -> str:
        """Which of its ways teacher and student chose."""
        return f"teacher {self.teacher.layout}, student {self.student.layout}"

    def forget(self) -> None:
        """Drops the cached knowledge, as at the start of a round: the next update computes it again."""
        self.teacher.clear_prefixes()

    def _accumulate(self) -> float:
        precision: AbstractContextManager[object] = nullcontext()
        if self._workload.mixed:
            precision = torch.autocast(self._workload.device, torch.bfloat16)
        with precision:
            return float(accumulate_gradients(self.student, self.teacher, self.rollouts, self._config).loss)

    def update(self) -> Update:
        synchronise()
        started = time.perf_counter()
        loss = self._accumulate()
        torch.nn.utils.clip_grad_norm_(self._trained, self._config.max_grad_norm)
        self._optimiser.step()
        self._optimiser.zero_grad()
        synchronise()
        return Update(time.perf_counter() - started, loss)

    def gradient(self) -> tuple[float, dict[str, Tensor]]:
        return self._accumulate(), gradients(self.model)
