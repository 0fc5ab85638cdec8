"""Moving teachers: an exponential moving average (EMA) of the student, and the live student."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from oel_core.config.run import DistillConfig
from oel_core.distillation.teachers.frozen import BaseTeacher, FrozenAdapter, FrozenCopy
from oel_core.distillation.teachers.shared_prefix import Prefixes
from oel_core.errors import ArtifactError
from oel_core.models.adapters import ADAPTER


class MovingAverage:
    """EMA of weights: after each step average = decay * average + (1 - decay) * source.

    The average is kept in float32: in bfloat16 1% of a small step would round away.

    Args:
        pairs: source and target tensor by name; both start equal.
        decay: the EMA decay.
    """

    def __init__(self, pairs: Mapping[str, tuple[Tensor, Tensor]], decay: float) -> None:
        self._pairs = pairs
        self._decay = decay
        self.average = {
            name: target.detach() if target.dtype == torch.float32 else source.detach().float().clone()
            for name, (source, target) in pairs.items()
        }

    @torch.no_grad()
    def update(self) -> None:
        """One EMA update."""
        for name, (source, _) in self._pairs.items():
            self.average[name].lerp_(source.detach().float(), 1 - self._decay)
        self._show()

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores the averages from a checkpoint. ArtifactError where the names differ."""
        if differing := sorted(tensors.keys() ^ self.average.keys()):
            raise ArtifactError(
                f"the checkpoint's moving teacher is of another model: {len(differing)} weights differ, like "
                f"{differing[0]}. Delete that checkpoint to resume from the one before it"
            )
        for name, tensor in tensors.items():
            self.average[name].copy_(tensor)
        self._show()

    def _show(self) -> None:
        for name, (_, target) in self._pairs.items():
            if target.dtype != torch.float32:  # a float32 target is the average itself
                target.copy_(self.average[name])


class _MovingTeacher(BaseTeacher):
    """EMA update and state of both EMA teachers."""

    _average: MovingAverage

    def update(self) -> None:
        """One EMA update; drops the cached prefixes."""
        self._average.update()
        self.clear_prefixes()

    def state(self) -> dict[str, Tensor]:
        return dict(self._average.average)

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        self._average.load(tensors)
        self.clear_prefixes()


class EmaCopy(_MovingTeacher, FrozenCopy):
    """For full fine-tuning: an EMA copy of the student. Arguments as for `FrozenCopy`."""

    def __init__(
        self, student: Any, dtype: torch.dtype, prefixes: Prefixes, config: DistillConfig, max_length: int | None = None
    ) -> None:
        super().__init__(student, dtype, prefixes, config, max_length)
        own = dict(self._reader.split.model.named_parameters())
        pairs = {name: (weight, own[name].data) for name, weight in _trainable(student).items()}
        self._average = MovingAverage(pairs, config.ema_decay)


class EmaAdapter(_MovingTeacher, FrozenAdapter):
    """For LoRA: an EMA of the student's adapter on the shared base model. Arguments as for `FrozenAdapter`."""

    def __init__(self, student: Any, prefixes: Prefixes, config: DistillConfig, max_length: int | None = None) -> None:
        super().__init__(student, prefixes, config, max_length)
        own = dict(student.named_parameters())
        pairs = {}
        for name, weight in _trainable(student).items():
            copied = ".".join(self.name if part == ADAPTER else part for part in name.split("."))
            pairs[name] = (weight, own[copied].data)
        self._average = MovingAverage(pairs, config.ema_decay)


class Live(BaseTeacher):
    """The student's current weights with knowledge in the prompt, without gradient; no second set of weights.

    Args:
        student: the model that is trained.
        prefixes: from `find_prefixes`.
        config: prefix layout and cache budgets.
        max_length: maximum sequence length, tokens; None means the model's context length.
    """

    def update(self) -> None:
        """Drops the cached prefixes."""
        self.clear_prefixes()

    @torch.no_grad()
    def logits(self, hidden: Tensor) -> Tensor:
        with self._active(self._reader.split.model):  # without dropout in an adapted output projection
            return super().logits(hidden)


def _trainable(student: Any) -> dict[str, Tensor]:
    return {name: weight for name, weight in student.named_parameters() if weight.requires_grad}
