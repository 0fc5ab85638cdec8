"""The frozen round-start teacher, behind one method: log-probabilities of given tokens at every response position.

That method is the seam: a teacher that computes each knowledge file's keys and values once only needs another class.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from oel_core.distillation.losses import log_probs_at
from oel_core.distillation.rollouts import Rollout
from oel_core.distillation.scoring import response_logits
from oel_core.models import ADAPTER, copy_adapter, use_adapter
from oel_core.policies.decoding import evaluating


class Teacher(Protocol):
    """Who the student is compared with."""

    def log_probs_at(self, rollouts: Sequence[Rollout], indices: Tensor, temperature: float) -> Tensor:
        """Scores the given tokens after the teacher's own prompts.

        Args:
            rollouts: the micro-batch, N response tokens in all.
            indices: token ids, shape (N, K), rows in the order of the rollouts' response tokens.
            temperature: divides the logits.

        Returns:
            Log-probabilities over the whole vocabulary, float32, shape (N, K), without gradient.
        """
        ...


def _score(model: Any, rollouts: Sequence[Rollout], indices: Tensor, temperature: float, pad_id: int) -> Tensor:
    logits = response_logits(
        model,
        model.get_output_embeddings(),
        [rollout.sample.taught_prompt for rollout in rollouts],
        [rollout.response for rollout in rollouts],
        pad_id=pad_id,
    )
    return log_probs_at(logits, indices, temperature)


class FrozenCopy:
    """For full fine-tuning: a copy of the student, made before its first step."""

    def __init__(self, student: Any, dtype: torch.dtype, *, pad_id: int) -> None:
        self._model = copy.deepcopy(student).to(dtype).requires_grad_(False).eval()
        self._pad_id = pad_id

    @torch.no_grad()
    def log_probs_at(self, rollouts: Sequence[Rollout], indices: Tensor, temperature: float) -> Tensor:
        return _score(self._model, rollouts, indices, temperature, self._pad_id)


class FrozenAdapter:
    """For LoRA: the shared base under a frozen copy of the adapter as it was at the round's start.

    From the second round on that adapter is not zero, so the bare base would be the wrong teacher.
    """

    name = "teacher"

    def __init__(self, student: Any, *, pad_id: int) -> None:
        self._model = student
        self._pad_id = pad_id
        with torch.random.fork_rng():  # peft draws initial weights before the copy overwrites them
            copy_adapter(student, self.name)

    @contextmanager
    def _active(self) -> Iterator[None]:
        """The teacher's adapter without dropout; afterwards the student's adapter as it was."""
        with evaluating(self._model):
            use_adapter(self._model, self.name)
            try:
                yield
            finally:
                use_adapter(self._model, ADAPTER)

    @torch.no_grad()
    def log_probs_at(self, rollouts: Sequence[Rollout], indices: Tensor, temperature: float) -> Tensor:
        with self._active():
            return _score(self._model, rollouts, indices, temperature, self._pad_id)
