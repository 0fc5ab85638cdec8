"""Objectives of context distillation, as pure functions of log-probabilities, chosen by name.

Shape legend: N response tokens, V vocabulary, K tokens of it (the student's K = min(top_k, V) likeliest, the one
sampled token, or all V). Every function takes the student's and the teacher's log-probabilities of the same K tokens,
both log-softmaxed over the whole vocabulary at the loss's temperature, and gives one value a response token, in nats.
Its gradient flows into the student's.

`score` adds what all have in common: the choice of the K tokens, and the gradient at V logits from that at K
log-probabilities, g - softmax * sum(g), which needs one pass over V and no autograd graph of it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from oel_core.config.run import DistillConfig
from oel_core.plugins.builtin import OBJECTIVES

_CACHED_VALUES = 2**19
"""Logits per block on a CPU."""

PerToken = Callable[[Tensor, Tensor], Tensor]
"""Log-probabilities of student and teacher, both (N, K), to values (N,)."""


def truncated_reverse_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """Sum over K of p_student * (log p_student - log p_teacher), as they stand: no renormalisation, no tail.

    Over the student's top-k the objective of "Online Experiential Learning" (arXiv 2603.16856), and negative where the
    teacher puts more mass on them; over the whole vocabulary KL(student || teacher).
    """
    return (student.exp() * (student - teacher)).sum(-1)


def renormalised_reverse_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """Reverse KL of both sides made to sum to one over the K tokens first; never negative."""
    return truncated_reverse_kl(student.log_softmax(-1), teacher.log_softmax(-1))


def tail_reverse_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """Reverse KL over K + 1 outcomes, the last one being "any other token"; never negative.

    A lower bound of the whole KL by the log-sum inequality, equal to it where both sides agree on the tail's shape.
    """
    return truncated_reverse_kl(student, teacher) + truncated_reverse_kl(_tail(student), _tail(teacher))


def _tail(log_probs: Tensor) -> Tensor:
    """Log of the mass outside the K tokens, (N, 1), clamped since rounding may make it negative.

    Computed in float64 by `score`, because 1 - sum cancels where the sum is near one.
    """
    rest = 1 - log_probs.exp().sum(-1, keepdim=True)
    return rest.clamp(min=torch.finfo(log_probs.dtype).eps).log()


def sampled_reverse_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """log p_student - log p_teacher of the sampled token (K = 1), with the score-function gradient.

    Value and gradient are those of KL(student || teacher) in expectation over tokens sampled from the student at the
    loss's temperature: the advantage is a constant, log p_student carries the gradient (REINFORCE; as on-policy
    distillation with a sampled token does, arXiv 2306.13649 section 3).
    """
    gap = (student - teacher).detach()
    return (gap + gap * (student - student.detach())).sum(-1)


def forward_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) over the whole vocabulary: usual in off-policy distillation (arXiv 1503.02531)."""
    return (teacher.exp() * (teacher - student)).sum(-1)


def generalised_jsd(student: Tensor, teacher: Tensor, beta: float) -> Tensor:
    """beta KL(teacher || m) + (1 - beta) KL(student || m) with m = beta teacher + (1 - beta) student.

    Over the whole vocabulary, 0 < beta < 1 (arXiv 2306.13649, equation 1). Divided by beta it tends to forward KL for
    beta to 0, divided by 1 - beta to reverse KL for beta to 1.
    """
    share = torch.tensor(beta, dtype=student.dtype, device=student.device)
    mixture = torch.logaddexp(teacher + share.log(), student + (1 - share).log())
    to_teacher = (teacher.exp() * (teacher - mixture)).sum(-1)
    to_student = (student.exp() * (student - mixture)).sum(-1)
    return share * to_teacher + (1 - share) * to_student


Support = Literal["top_k", "sampled", "all"]
"""The tokens that an objective is computed over: the student's top-k, the sampled one, or the whole vocabulary."""


class Loss(NamedTuple):
    """A named loss: its function and the tokens that it is computed over."""

    support: Support
    per_token: PerToken


REVERSE_KL_TOP_K = Loss("top_k", truncated_reverse_kl)
REVERSE_KL_RENORMALISED = Loss("top_k", renormalised_reverse_kl)
REVERSE_KL_TAIL = Loss("top_k", tail_reverse_kl)
REVERSE_KL = Loss("all", truncated_reverse_kl)
SAMPLED_TOKEN = Loss("sampled", sampled_reverse_kl)
FORWARD_KL = Loss("all", forward_kl)
GENERALISED_JSD = Loss("all", partial(generalised_jsd, beta=0.5))


@dataclass(frozen=True)
class Objective:
    """The loss minimised at each response token, with its settings."""

    support: Support
    per_token: PerToken
    top_k: int
    """Capped at V. Used with the support `top_k` only."""
    temperature: float
    """Divides the logits of student and teacher."""
    clip: float | None
    """Maximum loss of one token, nats, after the sum over the vocabulary; a clipped token has no gradient."""

    @classmethod
    def named(cls, config: DistillConfig) -> "Objective":
        """The objective that `distill.objective` names."""
        support, per_token = OBJECTIVES.load(config.objective)
        if config.objective == "generalised_jsd":
            per_token = partial(generalised_jsd, beta=config.jsd_beta)
        return cls(support, per_token, config.top_k, config.temperature, config.clip)

    @property
    def dtype(self) -> torch.dtype:
        """Minimum dtype of its log-probabilities."""
        return torch.float64 if self.per_token is tail_reverse_kl else torch.float32

    @property
    def passes(self) -> int:
        """Peak memory estimate, in float32 tensors of shape (N, V)."""
        return 12 if self.support == "all" or self.dtype is torch.float64 else 5


class Scored(NamedTuple):
    """Loss, metrics and gradient at N response tokens; float32, or float64 where the logits are."""

    divergence: Tensor
    """Nats, before the clip; shape (N,)."""
    loss: Tensor
    """The divergence after the clip; shape (N,)."""
    entropy: Tensor
    """Of the student at the objective's temperature, nats; shape (N,)."""
    student_mass: Tensor
    """The student's probability mass on the objective's K tokens; shape (N,)."""
    teacher_mass: Tensor
    """The teacher's mass on the same tokens; shape (N,)."""
    gradient: Tensor
    """Of each token's loss with respect to its student logits; shape (N, V)."""


@torch.no_grad()
def score(objective: Objective, student_logits: Tensor, teacher_logits: Tensor, sampled: Tensor) -> Scored:
    """Divergence, entropy and gradient of some response tokens. Log-sum-exps are float32 or better.

    Args:
        objective: what is minimised.
        student_logits: shape (N, V).
        teacher_logits: shape (N, V).
        sampled: the response tokens, shape (N,).
    """
    kind = torch.promote_types(student_logits.dtype, torch.float32)
    gradient = torch.empty_like(student_logits, dtype=kind)
    parts = []
    for rows in _blocks(student_logits):
        *values, gradient[rows] = _score(objective, student_logits[rows], teacher_logits[rows], sampled[rows])
        parts.append(values)
    divergence, loss, entropy, *masses = (torch.cat(part).to(kind) for part in zip(*parts, strict=True))
    return Scored(divergence, loss, entropy, masses[0], masses[1], gradient)


def _blocks(logits: Tensor) -> Iterator[slice]:
    """Rows scored together: all on a GPU; on a CPU few enough to fit its caches, which halves the time."""
    size = max(1, _CACHED_VALUES // logits.shape[-1]) if logits.device.type == "cpu" else max(1, len(logits))
    for start in range(0, len(logits), size):
        yield slice(start, start + size)


def _score(objective: Objective, student_logits: Tensor, teacher_logits: Tensor, sampled: Tensor) -> tuple[Tensor, ...]:
    """As `score`, of one block, in the objective's type or the logits', whichever is finer."""
    kind = torch.promote_types(student_logits.dtype, objective.dtype)
    student = student_logits.to(kind) / objective.temperature
    probabilities, log_sum = _softmax(student)
    indices = _indices(objective, student, sampled)
    chosen = _at(student, indices) - log_sum
    teacher = teacher_logits.to(kind) / objective.temperature
    teacher_log_probs = _at(teacher, indices) - _softmax(teacher)[1]
    divergence, loss, slope = _differentiate(objective, chosen, teacher_log_probs)
    entropy = log_sum[:, 0] - torch.linalg.vecdot(probabilities, student)
    slope = slope / objective.temperature
    gradient = probabilities.mul_(-slope.sum(-1, keepdim=True))
    gradient = gradient.add_(slope) if indices is None else gradient.scatter_add_(-1, indices, slope)
    return divergence, loss, entropy, _mass(chosen, indices), _mass(teacher_log_probs, indices), gradient


def _indices(objective: Objective, student: Tensor, sampled: Tensor) -> Tensor | None:
    """Token ids that the objective is computed over, (N, K); None for all."""
    if objective.support == "all":
        return None
    if objective.support == "sampled":
        return sampled[:, None]
    return student.topk(min(objective.top_k, student.shape[-1]), dim=-1, sorted=False).indices


def _softmax(scaled: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities (N, V) and log-sum-exp (N, 1); `sum` is pairwise, unlike the reduction in torch's CPU softmax."""
    most = scaled.amax(-1, keepdim=True)
    powers = (scaled - most).exp_()
    total = powers.sum(-1, keepdim=True)
    return powers.div_(total), most + total.log()


def _mass(log_probs: Tensor, indices: Tensor | None) -> Tensor:
    """Probability mass of the chosen tokens, (N,); exactly 1 for the whole vocabulary."""
    return log_probs.new_ones(len(log_probs)) if indices is None else log_probs.detach().exp().sum(-1)


def _at(values: Tensor, indices: Tensor | None) -> Tensor:
    return values if indices is None else values.gather(-1, indices)


def _differentiate(objective: Objective, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Divergence and loss, both (N,), and the loss's gradient with respect to the K log-probabilities, (N, K)."""
    with torch.enable_grad():
        student = student.requires_grad_()
        divergence = objective.per_token(student, teacher)
        loss = divergence if objective.clip is None else divergence.clamp(max=objective.clip)
        (slope,) = torch.autograd.grad(loss.sum(), student)
    return divergence.detach(), loss.detach(), slope
