"""What stands in a teacher's place where a regime has none."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from oel_core.distillation.training.rollouts import Rollout
from oel_core.errors import DistillationError


class NoTeacher:
    """Stands where a teacher would, and says nothing: every token is as likely as any other.

    Args:
        vocabulary: V, the student's.
        device: the student's.
    """

    def __init__(self, vocabulary: int, device: torch.device) -> None:
        self.vocabulary = vocabulary
        self._device = device

    def hidden(self, rollouts: Sequence[Rollout]) -> Tensor:
        """Nothing for each response token, shape (N, 0)."""
        return torch.empty(sum(len(rollout.response) for rollout in rollouts), 0, device=self._device)

    def logits(self, hidden: Tensor) -> Tensor:
        """Zeros that take no memory, shape (n, V)."""
        return torch.zeros(1, 1, device=self._device).expand(len(hidden), self.vocabulary)

    def answering(self) -> AbstractContextManager[Any]:
        """DistillationError: there is no model behind it."""
        raise DistillationError("this regime has no teacher that could answer")

    def follow(self) -> None:
        """Nothing follows."""

    def state(self) -> dict[str, Tensor]:
        """Nothing changes."""
        return {}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Nothing to take over."""
