"""Objectives of context distillation, as pure functions of logits.

Shape legend: N response tokens (any leading shape works), V vocabulary, K top tokens (K = min(top_k, V)).
The objective is that of "Online Experiential Learning" (arXiv 2603.16856): reverse KL(student || teacher) summed over
the student's K likeliest tokens, both sides log-softmaxed over the whole vocabulary, neither renormalised over the K
nor completed by a tail bucket. A sum truncated like this can be negative.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Divergence(NamedTuple):
    """What a divergence over response tokens gives."""

    per_token: Tensor
    """Shape (N,), 0 where the response mask is 0."""
    token_mean: Tensor
    """Scalar: mean over all response tokens of the batch, whichever sample they belong to."""


def _log_softmax_at(logits: Tensor, indices: Tensor, temperature: float) -> Tensor:
    """Log-probabilities of chosen tokens: one float32 log-sum-exp over V, then K values instead of V."""
    scaled = logits.float() / temperature
    return scaled.gather(-1, indices) - scaled.logsumexp(-1, keepdim=True)


def top_k_log_probs(logits: Tensor, top_k: int, temperature: float) -> tuple[Tensor, Tensor]:
    """The likeliest tokens with their log-probabilities over the whole vocabulary.

    Args:
        logits: shape (N, V).
        top_k: tokens kept; more than V means V.
        temperature: divides the logits.

    Returns:
        Log-probabilities, float32, shape (N, K), differentiable; and token indices, shape (N, K), constants.
    """
    indices = logits.detach().topk(min(top_k, logits.shape[-1]), dim=-1).indices
    return _log_softmax_at(logits, indices, temperature), indices


def log_probs_at(logits: Tensor, indices: Tensor, temperature: float) -> Tensor:
    """Log-probabilities over the whole vocabulary of given tokens.

    Args:
        logits: shape (N, V).
        indices: token ids, shape (N, K).
        temperature: divides the logits.

    Returns:
        float32, shape (N, K).
    """
    return _log_softmax_at(logits, indices, temperature)


def truncated_reverse_kl(student_log_probs: Tensor, teacher_log_probs: Tensor) -> Tensor:
    """The paper's objective per token: sum over K of p_student * (log p_student - log p_teacher), as they stand.

    Args:
        student_log_probs: over the student's top tokens, shape (N, K).
        teacher_log_probs: of the same tokens, shape (N, K).

    Returns:
        Shape (N,).
    """
    return (student_log_probs.exp() * (student_log_probs - teacher_log_probs)).sum(-1)


def renormalised_reverse_kl(student_log_probs: Tensor, teacher_log_probs: Tensor) -> Tensor:
    """The variant in which both sides are made to sum to one over the K tokens first; never negative.

    Args:
        student_log_probs: over the student's top tokens, shape (N, K).
        teacher_log_probs: of the same tokens, shape (N, K).

    Returns:
        Shape (N,).
    """
    return truncated_reverse_kl(student_log_probs.log_softmax(-1), teacher_log_probs.log_softmax(-1))


def _masked(per_token: Tensor, response_mask: Tensor) -> Divergence:
    per_token = per_token.masked_fill(response_mask == 0, 0.0)
    return Divergence(per_token, per_token.sum() / (response_mask != 0).sum())


def reverse_kl_top_k(
    student_logits: Tensor, teacher_logits: Tensor, top_k: int, temperature: float, response_mask: Tensor
) -> Divergence:
    """Reverse KL over the student's top-k tokens, not renormalised, no tail (arXiv 2603.16856).

    Args:
        student_logits: shape (N, V); the gradient flows through these.
        teacher_logits: shape (N, V); treated as constants.
        top_k: student tokens summed over; more than V means V.
        temperature: divides both logits.
        response_mask: shape (N,), 1 on response tokens. At least one must be.
    """
    student, indices = top_k_log_probs(student_logits, top_k, temperature)
    teacher = log_probs_at(teacher_logits.detach(), indices, temperature)
    return _masked(truncated_reverse_kl(student, teacher), response_mask)


def reverse_kl_top_k_renormalised(
    student_logits: Tensor, teacher_logits: Tensor, top_k: int, temperature: float, response_mask: Tensor
) -> Divergence:
    """`reverse_kl_top_k` with both sides renormalised over the student's top-k tokens. Same arguments."""
    student, indices = top_k_log_probs(student_logits, top_k, temperature)
    teacher = log_probs_at(teacher_logits.detach(), indices, temperature)
    return _masked(renormalised_reverse_kl(student, teacher), response_mask)


@torch.no_grad()
def entropy(logits: Tensor, temperature: float) -> Tensor:
    """Entropy in nats of each token's distribution over the whole vocabulary. A figure to watch: no gradient.

    Args:
        logits: shape (N, V).
        temperature: divides the logits.

    Returns:
        float32, shape (N,).
    """
    log_probs = (logits.float() / temperature).log_softmax(-1)
    return -(log_probs.exp() * log_probs).sum(-1)
