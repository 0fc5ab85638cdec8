"""Teachers that move with the student: an exponential moving average of it, and the student itself."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from oel_core.config.run import DistillConfig
from oel_core.distillation.teachers.frozen import FrozenAdapter, FrozenCopy, Reading
from oel_core.distillation.teachers.shared_prefix import Prefixes
from oel_core.errors import ArtifactError
from oel_core.models.loading import ADAPTER


class MovingAverage:
    """Weights that follow others: after each step decay * average + (1 - decay) * source.

    The average is kept in float32: in bfloat16 a share of 1% of a small step would round away.

    Args:
        pairs: what is followed and what follows, by name; both start equal.
        decay: share of itself that the average keeps.
    """

    def __init__(self, pairs: Mapping[str, tuple[Tensor, Tensor]], decay: float) -> None:
        self._pairs = pairs
        self._decay = decay
        self.average = {
            name: target.detach() if target.dtype == torch.float32 else source.detach().float().clone()
            for name, (source, target) in pairs.items()
        }

    @torch.no_grad()
    def follow(self) -> None:
        """One step."""
        for name, (source, _) in self._pairs.items():
            self.average[name].lerp_(source.detach().float(), 1 - self._decay)
        self._show()

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes over the averages of a checkpoint. ArtifactError where the names differ."""
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
            if target.dtype != torch.float32:  # otherwise the target's memory is the average
                target.copy_(self.average[name])


class _Following(Reading):
    """What both averages do beside reading."""

    _average: MovingAverage

    def follow(self) -> None:
        """One step of the average; what was read with the former weights is forgotten."""
        self._average.follow()
        self.forget()

    def state(self) -> dict[str, Tensor]:
        return dict(self._average.average)

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        self._average.load(tensors)
        self.forget()


class EmaCopy(_Following, FrozenCopy):
    """For full fine-tuning: a copy of the student that follows it. Arguments as for `FrozenCopy`."""

    def __init__(
        self, student: Any, dtype: torch.dtype, prefixes: Prefixes, config: DistillConfig, longest: int | None = None
    ) -> None:
        super().__init__(student, dtype, prefixes, config, longest)
        own = dict(self._reader.split.model.named_parameters())
        pairs = {name: (weight, own[name].data) for name, weight in _trainable(student).items()}
        self._average = MovingAverage(pairs, config.ema_decay)


class EmaAdapter(_Following, FrozenAdapter):
    """For LoRA: an adapter that follows the student's on the shared base. Arguments as for `FrozenAdapter`."""

    def __init__(self, student: Any, prefixes: Prefixes, config: DistillConfig, longest: int | None = None) -> None:
        super().__init__(student, prefixes, config, longest)
        own = dict(student.named_parameters())
        pairs = {name: (weight, own[self._own_name(name)].data) for name, weight in _trainable(student).items()}
        self._average = MovingAverage(pairs, config.ema_decay)

    def _own_name(self, name: str) -> str:
        return ".".join(self.name if part == ADAPTER else part for part in name.split("."))


class Live(Reading):
    """The student itself, with knowledge: no second set of weights. Its gradient is not taken.

    Args:
        student: the model that learns.
        prefixes: from `find_prefixes`.
        config: how prefixes are read and kept.
        longest: tokens of the longest sequence to come; None means the model's whole context.
    """

    def follow(self) -> None:
        """What was read with the former weights is forgotten."""
        self.forget()

    @torch.no_grad()
    def logits(self, hidden: Tensor) -> Tensor:
        with self._active(self._reader.split.model):  # a head's own adapter must not drop here
            return super().logits(hidden)


def _trainable(student: Any) -> dict[str, Tensor]:
    return {name: weight for name, weight in student.named_parameters() if weight.requires_grad}
