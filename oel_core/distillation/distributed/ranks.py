"""Data-parallel execution of a step: rollouts and gradients are divided among ranks and reduced.

The loss is a mean over all response tokens of the step, so every rank divides by the tokens of the whole step and
gradients are summed: the update equals that of one process up to rounding. Only tensors are communicated.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import partial
from itertools import accumulate
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from oel_core.config.run import DistillConfig
from oel_core.distillation.data.dataset import Sample
from oel_core.distillation.forward.prefix_tree import as_ids, sort_key
from oel_core.distillation.forward.student import Student
from oel_core.distillation.objectives.losses import Objective
from oel_core.distillation.teachers.frozen import Teacher
from oel_core.distillation.training.rollouts import Rollout
from oel_core.distillation.training.update import Scores, accumulate_gradients, check_rollouts, measure, trained_tokens

Generate = Callable[[Sequence[Sample]], list[Rollout]]
_BUCKET = 2**24
"""Gradient elements per all-reduce."""
NO_SCORES = Scores.empty()


class Ranks(Protocol):
    """The operations of a step that depend on how it is divided among processes."""

    world_size: int
    """Number of processes."""
    rank: int
    """From 0; rank 0 writes the files."""

    def make_student(self, model: Any, config: DistillConfig, max_length: int | None) -> Student:
        """The student of this process. Arguments as for `Student`."""
        ...

    def begin_step(self, model: nn.Module) -> None:
        """Called before a step's rollouts, after the weights have changed."""
        ...

    def roll_out(self, samples: Sequence[Sample], generate: Generate) -> list[Rollout]:
        """A rollout of every sample, in their order; `generate` is called with this rank's samples, if it has any."""
        ...

    def accumulate(
        self,
        student: Student,
        teacher: Teacher,
        rollouts: Sequence[Rollout],
        config: DistillConfig,
        *,
        weight: float | None = None,
        objective: Objective | None = None,
    ) -> Scores:
        """As `accumulate_gradients`, on this rank's rollouts; returns the scores of all rollouts."""
        ...

    def measure(self, student: Student, teacher: Teacher, rollouts: Sequence[Rollout], objective: Objective) -> Scores:
        """As the function `measure`."""
        ...

    def end_step(self, model: nn.Module) -> None:
        """All-reduces the gradients (sum)."""
        ...

    def model_weights(self, model: nn.Module) -> dict[str, Tensor] | None:
        """Full weights of a sharded model, None for an unsharded one; empty tensors on ranks other than 0."""
        ...

    def full_tensors(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Gathers sharded tensors; empty tensors on ranks other than 0."""
        ...

    def wait(self) -> None:
        """Barrier."""
        ...


class SingleProcess:
    """A single process: nothing is communicated."""

    world_size = 1
    rank = 0

    def make_student(self, model: Any, config: DistillConfig, max_length: int | None) -> Student:
        return Student(model, config, max_length)

    def begin_step(self, model: nn.Module) -> None:
        """Nothing to gather."""

    def roll_out(self, samples: Sequence[Sample], generate: Generate) -> list[Rollout]:
        return generate(samples)

    def accumulate(
        self,
        student: Student,
        teacher: Teacher,
        rollouts: Sequence[Rollout],
        config: DistillConfig,
        *,
        weight: float | None = None,
        objective: Objective | None = None,
    ) -> Scores:
        return accumulate_gradients(student, teacher, rollouts, config, weight=weight, objective=objective)

    def measure(self, student: Student, teacher: Teacher, rollouts: Sequence[Rollout], objective: Objective) -> Scores:
        return measure(student, teacher, rollouts, objective)

    def end_step(self, model: nn.Module) -> None:
        """Nothing to reduce."""

    def model_weights(self, model: nn.Module) -> dict[str, Tensor] | None:
        return None

    def full_tensors(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return dict(tensors)

    def wait(self) -> None:
        """No other process to wait for."""


class DataParallel(SingleProcess):
    """Data parallel: every rank holds all weights; gradients are all-reduced once a step.

    Args:
        device: of the communicated tensors; a GPU for NCCL.
        served: rollouts come from a server, which rank 0 asks for all of them.
    """

    def __init__(self, device: torch.device, *, served: bool = False) -> None:
        self.world_size, self.rank = dist.get_world_size(), dist.get_rank()
        self._device = device
        self._generating = 1 if served else self.world_size

    def roll_out(self, samples: Sequence[Sample], generate: Generate) -> list[Rollout]:
        mine = range(len(samples))[self.rank :: self._generating] if self.rank < self._generating else range(0)
        found = dict(zip(mine, generate([samples[place] for place in mine]) if mine else [], strict=True))
        lengths = self._all_reduced([len(found[p].response) if p in found else 0 for p in range(len(samples))])
        truncated = self._all_reduced([int(found[p].truncated) if p in found else 0 for p in range(len(samples))])
        tokens = self._all_reduced(
            [
                token
                for place, length in enumerate(lengths)
                for token in (found[place].response if place in found else [0] * length)
            ]
        )
        ends = list(accumulate(lengths))
        return [
            Rollout(sample, tokens[end - length : end], truncated=bool(cut))
            for sample, length, end, cut in zip(samples, lengths, ends, truncated, strict=True)
        ]

    def accumulate(
        self,
        student: Student,
        teacher: Teacher,
        rollouts: Sequence[Rollout],
        config: DistillConfig,
        *,
        weight: float | None = None,
        objective: Objective | None = None,
    ) -> Scores:
        check_rollouts(rollouts)
        share = weight if weight is not None else 1 / trained_tokens(rollouts)
        accumulate_part = partial(accumulate_gradients, student, teacher, config=config, objective=objective)

        def work(part: Sequence[Rollout]) -> Scores:
            batches = student.micro_batches(part)
            missing = self._missing_batches(len(batches))  # before the first backward: none may come between two
            found = accumulate_part(rollouts=part, weight=share, batches=batches) if part else NO_SCORES
            for _ in range(missing):
                accumulate_part(rollouts=rollouts[:1], weight=0.0)
            return found

        return self._scored_by_all(rollouts, work)

    def measure(self, student: Student, teacher: Teacher, rollouts: Sequence[Rollout], objective: Objective) -> Scores:
        return self._scored_by_all(
            rollouts, lambda part: measure(student, teacher, part, objective) if part else NO_SCORES
        )

    def end_step(self, model: nn.Module) -> None:
        """All-reduces gradients; a parameter without a gradient on every rank keeps None."""
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        used = self._all_reduced([int(parameter.grad is not None) for parameter in parameters])
        for parameter, uses in zip(parameters, used, strict=True):
            if uses and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        for bucket in _buckets([parameter.grad for parameter in parameters if parameter.grad is not None]):
            flat = torch.cat([gradient.flatten() for gradient in bucket])
            dist.all_reduce(flat)
            for gradient, part in zip(bucket, flat.split([one.numel() for one in bucket]), strict=True):
                gradient.copy_(part.view_as(gradient))

    def wait(self) -> None:
        self._all_reduced([0])

    def _missing_batches(self, batches: int) -> int:
        """Zero-weight micro-batches that this rank must add so that all ranks run equally many backwards."""
        return 0

    def _scored_by_all(self, rollouts: Sequence[Rollout], work: Callable[[Sequence[Rollout]], Scores]) -> Scores:
        """Scores of all rollouts, each computed on one rank; a rank may have none."""
        mine = divide(rollouts, self.world_size)[self.rank]
        found = work([rollouts[place] for place in mine])
        lengths = [len(rollout.response) for rollout in rollouts]
        parts = (getattr(found, part.name) for part in fields(Scores))
        return Scores(*(self._gather(dict(zip(mine, part, strict=True)), lengths) for part in parts))

    def _gather(self, found: Mapping[int, Tensor], lengths: Sequence[int]) -> list[Tensor]:
        """All-gather by a sum: every rank fills in its own values and leaves the others zero."""
        flat = torch.zeros(sum(lengths), device=self._device)
        parts = flat.split(list(lengths))
        for place, values in found.items():
            parts[place].copy_(values)
        dist.all_reduce(flat)
        return list(parts)

    def _all_reduced(self, values: Sequence[int]) -> list[int]:
        """Sums over the ranks."""
        tensor = torch.tensor(list(values), dtype=torch.long, device=self._device)
        dist.all_reduce(tensor)
        joined: list[int] = tensor.tolist()
        return joined


def divide(rollouts: Sequence[Rollout], count: int) -> list[list[int]]:
    """Indices for each of `count` ranks: balanced by tokens, prompts with a common prefix on the same rank."""
    order = sorted(
        range(len(rollouts)), key=lambda p: sort_key(as_ids(rollouts[p].sample.prompt, rollouts[p].response))
    )
    parts: list[list[int]] = [[] for _ in range(count)]
    total, before = sum(rollout.length for rollout in rollouts), 0
    for place in order:
        middle = before + rollouts[place].length / 2
        parts[min(count - 1, int(middle * count / total))].append(place)
        before += rollouts[place].length
    return parts


def _buckets(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Consecutive gradients of one dtype, at most `_BUCKET` elements per bucket (one larger gradient goes alone)."""
    bucket: list[Tensor] = []
    for gradient in gradients:
        full = sum(one.numel() for one in bucket) + gradient.numel() > _BUCKET
        if bucket and (full or bucket[0].dtype != gradient.dtype):
            yield bucket
            bucket = []
        bucket.append(gradient)
    if bucket:
        yield bucket
