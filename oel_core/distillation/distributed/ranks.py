"""The processes that share a distillation: each answers and learns from its part of a step, all hold the same result.

A step's mean is over all of its response tokens, whoever read them, so every process weighs its part by the tokens of
the whole step and the gradients are added up: the update is that of one process, to rounding. Only tensors travel
between processes.
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

Answer = Callable[[Sequence[Sample]], list[Rollout]]
_BUCKET = 2**24
"""Gradient values that are added up in one message."""
NOTHING = Scores.nothing()


class Ranks(Protocol):
    """How a step is divided."""

    count: int
    """Processes."""
    index: int
    """This one's number, from 0; number 0 writes the files."""

    def make_student(self, model: Any, config: DistillConfig, longest: int | None) -> Student:
        """The student as this process reads it. Arguments as for `Student`."""
        ...

    def begin_step(self, model: nn.Module) -> None:
        """The weights have changed since the last step."""
        ...

    def roll_out(self, samples: Sequence[Sample], answer: Answer) -> list[Rollout]:
        """A rollout of every sample, in their order; `answer` is asked for this process's part."""
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
        """As `accumulate_gradients`, over this process's part; the scores are of all rollouts."""
        ...

    def measure(self, student: Student, teacher: Teacher, rollouts: Sequence[Rollout], objective: Objective) -> Scores:
        """As the function `measure`."""
        ...

    def end_step(self, model: nn.Module) -> None:
        """The step's gradients are there: makes those of every process the sum over all."""
        ...

    def model_weights(self, model: nn.Module) -> dict[str, Tensor] | None:
        """All weights whole, where the model's own are not; on other processes than number 0 empty ones."""
        ...

    def whole(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors that may be divided among the processes, whole; on other processes than number 0 empty ones."""
        ...

    def wait(self) -> None:
        """Until all processes are here."""
        ...


class Alone:
    """One process."""

    count = 1
    index = 0

    def make_student(self, model: Any, config: DistillConfig, longest: int | None) -> Student:
        return Student(model, config, longest)

    def begin_step(self, model: nn.Module) -> None:
        """Nothing is held twice."""

    def roll_out(self, samples: Sequence[Sample], answer: Answer) -> list[Rollout]:
        return answer(samples)

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
        """There is nobody else."""

    def model_weights(self, model: nn.Module) -> dict[str, Tensor] | None:
        return None

    def whole(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return dict(tensors)

    def wait(self) -> None:
        """There is nobody else."""


class Replicas(Alone):
    """Several processes, each with all weights: data parallel, one message of gradients a step.

    Args:
        device: where messages are made up; a GPU for NCCL.
    """

    def __init__(self, device: torch.device) -> None:
        self.count, self.index = dist.get_world_size(), dist.get_rank()
        self._device = device

    def roll_out(self, samples: Sequence[Sample], answer: Answer) -> list[Rollout]:
        mine = range(len(samples))[self.index :: self.count]
        found = dict(zip(mine, answer([samples[place] for place in mine]) if mine else [], strict=True))
        lengths = self._joined([len(found[p].response) if p in found else 0 for p in range(len(samples))])
        truncated = self._joined([int(found[p].truncated) if p in found else 0 for p in range(len(samples))])
        tokens = self._joined(
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
        learn = partial(accumulate_gradients, student, teacher, config=config, objective=objective)

        def work(part: Sequence[Rollout]) -> Scores:
            batches = student.micro_batches(part)
            fewer = self._fewer(len(batches))  # agreed on now: between backwards there may be no other message
            found = learn(rollouts=part, weight=share, batches=batches) if part else NOTHING
            for _ in range(fewer):
                learn(rollouts=rollouts[:1], weight=0.0)
            return found

        return self._divided(rollouts, work)

    def measure(self, student: Student, teacher: Teacher, rollouts: Sequence[Rollout], objective: Objective) -> Scores:
        return self._divided(rollouts, lambda part: measure(student, teacher, part, objective) if part else NOTHING)

    def end_step(self, model: nn.Module) -> None:
        """A parameter that no process has a gradient for keeps none."""
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        used = self._joined([int(parameter.grad is not None) for parameter in parameters])
        for parameter, uses in zip(parameters, used, strict=True):
            if uses and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        for bucket in _buckets([parameter.grad for parameter in parameters if parameter.grad is not None]):
            flat = torch.cat([gradient.flatten() for gradient in bucket])
            dist.all_reduce(flat)
            for gradient, part in zip(bucket, flat.split([one.numel() for one in bucket]), strict=True):
                gradient.copy_(part.view_as(gradient))

    def wait(self) -> None:
        self._joined([0])

    def _fewer(self, batches: int) -> int:
        """How many micro-batches this process has to make up for; none where nobody waits for them."""
        return 0

    def _divided(self, rollouts: Sequence[Rollout], work: Callable[[Sequence[Rollout]], Scores]) -> Scores:
        """Scores of all rollouts, each computed by one process; one may have nothing to do."""
        mine = divide(rollouts, self.count)[self.index]
        found = work([rollouts[place] for place in mine])
        lengths = [len(rollout.response) for rollout in rollouts]
        parts = (getattr(found, part.name) for part in fields(Scores))
        return Scores(*(self._gathered(dict(zip(mine, part, strict=True)), lengths) for part in parts))

    def _gathered(self, found: Mapping[int, Tensor], lengths: Sequence[int]) -> list[Tensor]:
        """Each process fills in its own values; the others are zero, so the sum changes nothing."""
        flat = torch.zeros(sum(lengths), device=self._device)
        parts = flat.split(list(lengths))
        for place, values in found.items():
            parts[place].copy_(values)
        dist.all_reduce(flat)
        return list(parts)

    def _joined(self, values: Sequence[int]) -> list[int]:
        """Sums over the processes."""
        tensor = torch.tensor(list(values), dtype=torch.long, device=self._device)
        dist.all_reduce(tensor)
        joined: list[int] = tensor.tolist()
        return joined


def divide(rollouts: Sequence[Rollout], count: int) -> list[list[int]]:
    """Positions for each of `count` processes: about as many tokens each, prompts that begin alike together."""
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
    """In their order, as many of one type together as a message takes."""
    bucket: list[Tensor] = []
    for gradient in gradients:
        full = sum(one.numel() for one in bucket) + gradient.numel() > _BUCKET
        if bucket and (full or bucket[0].dtype != gradient.dtype):
            yield bucket
            bucket = []
        bucket.append(gradient)
    if bucket:
        yield bucket
