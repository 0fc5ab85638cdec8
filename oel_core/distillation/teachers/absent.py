"""The placeholder teacher of regimes without one."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from oel_core.distillation.training.rollouts import Rollout
from oel_core.errors import DistillationError
from oel_core.policies.hf.prefix_cache import CachedSequence


class NoTeacher:
    """A null teacher with uniform logits.

    Args:
        vocabulary: V, the student's.
        device: the student's.
    """

    def __init__(self, vocabulary: int, device: torch.device) -> None:
        self.vocabulary = vocabulary
        self._device = device

    def hidden(self, rollouts: Sequence[Rollout]) -> Tensor:
        """Empty hidden states, shape (N, 0)."""
        return torch.empty(sum(len(rollout.response) for rollout in rollouts), 0, device=self._device)

    def logits(self, hidden: Tensor) -> Tensor:
        """Zeros, shape (n, V), expanded without allocation."""
        return torch.zeros(1, 1, device=self._device).expand(len(hidden), self.vocabulary)

    def generation_model(self) -> AbstractContextManager[Any]:
        """Raises DistillationError: there is no model."""
        raise DistillationError("this regime has no teacher that could generate")

    def prefilled(self, knowledge_indices: Iterable[int]) -> list[CachedSequence]:
        """Empty."""
        return []

    def update(self) -> None:
        """No weights to update."""

    def state(self) -> dict[str, Tensor]:
        """Empty."""
        return {}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Ignored."""
