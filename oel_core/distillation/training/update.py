"""The loss and gradient of one update on given rollouts: where student, teacher and objective meet.

    student = Student(model, config)
    teacher = FrozenCopy(model, torch.float32, find_prefixes(steps), config)
    scores = accumulate_gradients(student, teacher, rollouts, config)
    optimizer.step()

What an update costs, in forwards of one token: 3 for each that the student reads (forward and backward), 1 for each
that the teacher reads behind its prefix, and once a round each knowledge file. Memory holds one micro-batch's states
and one chunk of logits: a chunk goes to the vocabulary, is scored, gives its gradient back to the hidden states and is
gone before the next. Nothing of shape (tokens, vocabulary) exists, and nothing is computed twice.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from oel_core.config.distill import CHUNK_BYTES
from oel_core.config.run import DistillConfig
from oel_core.distillation.forward.student import Student
from oel_core.distillation.objectives.losses import Objective, Scored, score
from oel_core.distillation.teachers.frozen import Teacher
from oel_core.distillation.training.rollouts import Rollout
from oel_core.errors import DistillationError
from oel_core.policies.hf.decoding import evaluating


@dataclass(frozen=True)
class Scores:
    """What a set of rollouts was scored with, without gradient, in the order of the rollouts."""

    divergence: list[Tensor]
    """Nats per response token, before the clip."""
    losses: list[Tensor]
    """The same after it. A step keeps those of the tokens that were trained on."""
    entropy: list[Tensor]
    """Of the student, nats per response token."""
    student_mass: list[Tensor]
    """Probability that the student gives the tokens which the objective looks at, per response token."""
    teacher_mass: list[Tensor]
    """The same of the teacher."""

    @classmethod
    def nothing(cls) -> "Scores":
        """Of no rollouts."""
        return cls(*([] for _ in fields(cls)))

    @property
    def tokens(self) -> int:
        """Response tokens that have a loss."""
        return sum(map(len, self.losses))

    @property
    def loss(self) -> Tensor:
        """Mean over all of these, whichever rollout they belong to; a scalar, 0 where there are none."""
        return torch.cat(self.losses).sum() / max(1, self.tokens)


def accumulate_gradients(
    student: Student,
    teacher: Teacher,
    rollouts: Sequence[Rollout],
    config: DistillConfig,
    *,
    weight: float | None = None,
    objective: Objective | None = None,
    batches: Sequence[Sequence[Rollout]] | None = None,
) -> Scores:
    """Adds the gradient of the mean loss per trained response token to `.grad` of the student's parameters.

    Scores are of all response tokens; those that a rollout masks add nothing to the gradient.

    Micro-batches and chunks change memory and time, and the result only by rounding. Gradients are added from the
    first micro-batch on: after an error they are worth nothing.

    Args:
        student: who learns.
        teacher: whom it learns from.
        rollouts: samples with the student's responses.
        config: the objective's settings.
        weight: of each trained token in the sum that is differentiated; None gives 1 / trained tokens, the mean.
        objective: what is minimised; None gives the configured one.
        batches: the rollouts as micro-batches; None has the student make them.

    Raises:
        DistillationError: there is no rollout, a response is empty, or teacher and student differ in their vocabulary.
    """
    check_rollouts(rollouts)
    check_vocabulary(student, teacher)
    chosen = objective or Objective.named(config)
    share = weight if weight is not None else 1 / trained_tokens(rollouts)

    def learn(batch: Sequence[Rollout]) -> tuple[Tensor, ...]:
        taught = teacher.hidden(batch)
        with student.reading():
            return _backward(student, teacher, batch, taught, chosen, share)

    return _in_order(student.micro_batches(rollouts) if batches is None else batches, rollouts, learn)


@torch.no_grad()
def measure(student: Student, teacher: Teacher, rollouts: Sequence[Rollout], objective: Objective) -> Scores:
    """The scores alone, without dropout and gradient. Arguments and errors as for `accumulate_gradients`."""
    check_rollouts(rollouts)

    def look(batch: Sequence[Rollout]) -> tuple[Tensor, ...]:
        taught = teacher.hidden(batch)
        with student.reading(), evaluating(student.split.model):
            hidden = student.hidden(batch)
            sampled = torch.tensor([token for rollout in batch for token in rollout.response], device=hidden.device)
            parts = [
                score(objective, student.split.logits(hidden[rows]), teacher.logits(taught[rows]), sampled[rows])[:-1]
                for rows in chunks(len(hidden), student.split.vocabulary, objective, hidden.device)
            ]
        return tuple(torch.cat(part) for part in zip(*parts, strict=True))

    return _in_order(student.micro_batches(rollouts), rollouts, look)


def _in_order(
    batches: Sequence[Sequence[Rollout]],
    rollouts: Sequence[Rollout],
    visit: Callable[[Sequence[Rollout]], tuple[Tensor, ...]],
) -> Scores:
    """Visits micro-batches, each giving the parts of `Scores` for its tokens, and sorts these by rollout."""
    found: dict[int, tuple[Tensor, ...]] = {}
    places = {id(rollout): place for place, rollout in enumerate(rollouts)}
    for batch in batches:
        lengths = [len(rollout.response) for rollout in batch]
        each = zip(*(part.split(lengths) for part in visit(batch)), strict=True)
        found.update(zip((places[id(rollout)] for rollout in batch), each, strict=True))
    ordered = [found[place] for place in range(len(rollouts))]
    return Scores(*(list(part) for part in zip(*ordered, strict=True)))


def _backward(
    student: Student, teacher: Teacher, batch: Sequence[Rollout], taught: Tensor, objective: Objective, weight: float
) -> tuple[Tensor, ...]:
    """One micro-batch's gradient. Gives the parts of `Scores`, each (N,)."""
    hidden = student.hidden(batch)
    leaf = hidden.detach().requires_grad_()
    sampled = torch.tensor([token for rollout in batch for token in rollout.response], device=hidden.device)
    weights = [weight * (place >= one.masked) for one in batch for place in range(len(one.response))]
    parts = []
    for rows in chunks(len(leaf), student.split.vocabulary, objective, hidden.device):
        logits = student.split.logits(leaf[rows])
        scored: Scored = score(objective, logits.detach(), teacher.logits(taught[rows]), sampled[rows])
        shares = torch.tensor(weights[rows], dtype=scored.gradient.dtype, device=logits.device)
        logits.backward(scored.gradient.mul_(shares[:, None]).to(logits.dtype))
        parts.append(scored[:-1])
        del logits, scored
    if hidden.requires_grad:
        hidden.backward(leaf.grad)
    return tuple(torch.cat(part) for part in zip(*parts, strict=True))


def chunks(tokens: int, vocabulary: int, objective: Objective, device: torch.device) -> Iterator[slice]:
    """Rows that go to the vocabulary together: as many as there is room for, evenly spread."""
    room = CHUNK_BYTES.get(device.type, CHUNK_BYTES["cpu"])
    most = max(1, room // (4 * vocabulary * objective.passes))
    count = -(-tokens // most)
    size = -(-tokens // count)
    for start in range(0, tokens, size):
        yield slice(start, start + size)


def trained_tokens(rollouts: Sequence[Rollout]) -> int:
    """Response tokens that have a loss. DistillationError where there are none: no mean can be taken."""
    if not (tokens := sum(rollout.trained for rollout in rollouts)):
        raise DistillationError("every response token is masked, so there is nothing to learn from")
    return tokens


def check_rollouts(rollouts: Sequence[Rollout]) -> None:
    """Refuses nothing at all and empty responses. DistillationError names the samples."""
    if not rollouts:
        raise DistillationError("there are no rollouts to learn from")
    empty = [rollout.sample.id for rollout in rollouts if not rollout.response]
    if empty:
        raise DistillationError(f"empty responses cannot be learnt from: {', '.join(empty[:8])}")


def check_vocabulary(student: Student, teacher: Teacher) -> None:
    """Refuses a teacher that speaks another vocabulary. DistillationError names both sizes."""
    if student.split.vocabulary != teacher.vocabulary:
        raise DistillationError(
            f"the student's vocabulary has {student.split.vocabulary} tokens, the teacher's {teacher.vocabulary}: "
            "their distributions cannot be compared. Give both the same tokenizer and embedding size"
        )
