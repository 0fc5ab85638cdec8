"""What is timed: one optimiser step of a trainer, between its own callbacks."""

import time
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import TrainerCallback


@dataclass(frozen=True)
class Update:
    """One optimiser step."""

    seconds: float
    """Teacher scores, student forward and backward, gradient clip and optimiser step."""
    loss: float
    """As the contender defines it, before the step."""


class Contender(Protocol):
    """A trainer that repeats the same step on the same samples."""

    def update(self) -> Update:
        """One optimiser step, timed."""
        ...

    def gradient(self) -> tuple[float, dict[str, Tensor]]:
        """Loss and gradients of the current weights, without a step."""
        ...


def synchronise() -> None:
    """Waits for what the GPU still has to do, so that the clock counts it."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class StepClock(TrainerCallback):  # type: ignore[misc]
    """Times from the trainer's start of a step to the end of its optimiser step; its logging comes later.

    `uncounted` is taken off: what a contender does in between that the other does not have to.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.uncounted = 0.0
        self._started = 0.0

    def on_step_begin(self, *_arguments: Any, **_more: Any) -> None:
        self.uncounted = 0.0
        synchronise()
        self._started = time.perf_counter()

    def on_step_end(self, *_arguments: Any, **_more: Any) -> None:
        synchronise()
        self.seconds = time.perf_counter() - self._started - self.uncounted


def gradients(model: Any) -> dict[str, Tensor]:
    """Copies of a model's gradients by name; the model's own are cleared."""
    found = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad(set_to_none=True)
    return found
