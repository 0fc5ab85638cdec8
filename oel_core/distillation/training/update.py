"""Loss and gradient of one update on given rollouts, from student, teacher and objective.

    student = Student(model, config)
    teacher = FrozenCopy(model, torch.float32, find_prefixes(steps), config)
    scores = accumulate_gradients(student, teacher, rollouts, config)
    optimizer.step()

Cost, in forwards of one token: 3 per student token (forward and backward), 1 per teacher token after the cached prefix,
and one prefill of each knowledge file a round. Peak memory holds one micro-batch's activations and one chunk of logits:
each chunk is projected, scored, backpropagated to the hidden states and freed. No tensor of shape (tokens, vocabulary)
is allocated, and nothing is computed twice.
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
    """Per-token losses and metrics of a set of rollouts, without gradient, in the order of the rollouts."""

    divergence: list[Tensor]
    """Nats per response token, before the clip."""
    losses: list[Tensor]
    """The divergence after the clip; a step keeps those of trained tokens only."""
    entropy: list[Tensor]
    """Entropy of the student, nats per response token."""
    student_mass: list[Tensor]
    """The student's probability mass on the objective's tokens, per response token."""
    teacher_mass: list[Tensor]
    """The teacher's mass on the same tokens."""

    @classmethod
    def empty(cls) -> "Scores":
        """Scores of no rollouts."""
        return cls(*([] for _ in fields(cls)))

    @property
    def tokens(self) -> int:
        """Number of response tokens with a loss."""
        return sum(map(len, self.losses))

    @property
    def loss(self) -> Tensor:
        """Mean over all response tokens with a loss; a scalar, 0 where there are none."""
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

    The sizes of micro-batches and chunks change memory and time, and the result only by rounding. After an error the
    gradients are incomplete and must be discarded.

    Args:
        student: the model that is trained.
        teacher: computes the target distribution.
        rollouts: samples with the student's responses.
        config: the objective's settings.
        weight: of each trained token's loss; None means 1 / trained tokens, the mean.
        objective: the loss; None means the configured one.
        batches: the rollouts as micro-batches; None means `student.micro_batches`.

    Raises:
        DistillationError: there is no rollout, a response is empty, or teacher and student differ in their vocabulary.
    """
    check_rollouts(rollouts)
    check_vocabulary(student, teacher)
    chosen = objective or Objective.named(config)
    share = weight if weight is not None else 1 / trained_tokens(rollouts)

    def forward_backward(batch: Sequence[Rollout]) -> tuple[Tensor, ...]:
        teacher_hidden = teacher.hidden(batch)
        with student.attention_context():
            return _backward(student, teacher, batch, teacher_hidden, chosen, share)

    return _in_order(student.micro_batches(rollouts) if batches is None else batches, rollouts, forward_backward)


@torch.no_grad()
def measure(student: Student, teacher: Teacher, rollouts: Sequence[Rollout], objective: Objective) -> Scores:
    """The scores without gradient, in eval mode. Arguments and errors as for `accumulate_gradients`."""
    check_rollouts(rollouts)

    def forward(batch: Sequence[Rollout]) -> tuple[Tensor, ...]:
        teacher_hidden = teacher.hidden(batch)
        with student.attention_context(), evaluating(student.split.model):
            hidden = student.hidden(batch)
            sampled = torch.tensor([token for rollout in batch for token in rollout.response], device=hidden.device)
            parts = [
                score(
                    objective, student.split.logits(hidden[rows]), teacher.logits(teacher_hidden[rows]), sampled[rows]
                )[:-1]
                for rows in chunks(len(hidden), student.split.vocabulary, objective, hidden.device)
            ]
        return tuple(torch.cat(part) for part in zip(*parts, strict=True))

    return _in_order(student.micro_batches(rollouts), rollouts, forward)


def _in_order(
    batches: Sequence[Sequence[Rollout]],
    rollouts: Sequence[Rollout],
    run: Callable[[Sequence[Rollout]], tuple[Tensor, ...]],
) -> Scores:
    """Runs all micro-batches, each of which returns the fields of `Scores`, and restores the order of the rollouts."""
    found: dict[int, tuple[Tensor, ...]] = {}
    places = {id(rollout): place for place, rollout in enumerate(rollouts)}
    for batch in batches:
        lengths = [len(rollout.response) for rollout in batch]
        each = zip(*(part.split(lengths) for part in run(batch)), strict=True)
        found.update(zip((places[id(rollout)] for rollout in batch), each, strict=True))
    ordered = [found[place] for place in range(len(rollouts))]
    return Scores(*(list(part) for part in zip(*ordered, strict=True)))


def _backward(
    student: Student,
    teacher: Teacher,
    batch: Sequence[Rollout],
    teacher_hidden: Tensor,
    objective: Objective,
    weight: float,
) -> tuple[Tensor, ...]:
    """Forward and backward of one micro-batch. Returns the fields of `Scores`, each (N,)."""
    hidden = student.hidden(batch)
    leaf = hidden.detach().requires_grad_()
    sampled = torch.tensor([token for rollout in batch for token in rollout.response], device=hidden.device)
    weights = [weight * (place >= one.masked) for one in batch for place in range(len(one.response))]
    parts = []
    for rows in chunks(len(leaf), student.split.vocabulary, objective, hidden.device):
        logits = student.split.logits(leaf[rows])
        scored: Scored = score(objective, logits.detach(), teacher.logits(teacher_hidden[rows]), sampled[rows])
        shares = torch.tensor(weights[rows], dtype=scored.gradient.dtype, device=logits.device)
        logits.backward(scored.gradient.mul_(shares[:, None]).to(logits.dtype))
        parts.append(scored[:-1])
        del logits, scored
    if hidden.requires_grad:
        hidden.backward(leaf.grad)
    return tuple(torch.cat(part) for part in zip(*parts, strict=True))


def chunks(tokens: int, vocabulary: int, objective: Objective, device: torch.device) -> Iterator[slice]:
    """Slices of equal size of the tokens whose logits are computed together, within the memory budget."""
    budget = CHUNK_BYTES.get(device.type, CHUNK_BYTES["cpu"])
    most = max(1, budget // (4 * vocabulary * objective.passes))
    count = -(-tokens // most)
    size = -(-tokens // count)
    for start in range(0, tokens, size):
        yield slice(start, start + size)


def trained_tokens(rollouts: Sequence[Rollout]) -> int:
    """Number of response tokens with a loss. DistillationError where there are none."""
    if not (tokens := sum(rollout.trained for rollout in rollouts)):
        raise DistillationError("every response token is masked, so there is nothing to train on")
    return tokens


def check_rollouts(rollouts: Sequence[Rollout]) -> None:
    """Raises DistillationError where there are no rollouts or empty responses; names the samples."""
    if not rollouts:
        raise DistillationError("there are no rollouts to train on")
    empty = [rollout.sample.id for rollout in rollouts if not rollout.response]
    if empty:
        raise DistillationError(f"empty responses cannot be trained on: {', '.join(empty[:8])}")


def check_vocabulary(student: Student, teacher: Teacher) -> None:
    """Raises DistillationError where student and teacher differ in vocabulary size; names both sizes."""
    if student.split.vocabulary != teacher.vocabulary:
        raise DistillationError(
            f"the student's vocabulary has {student.split.vocabulary} tokens, the teacher's {teacher.vocabulary}: "
            "their distributions cannot be compared. Give both the same tokenizer and embedding size"
        )
