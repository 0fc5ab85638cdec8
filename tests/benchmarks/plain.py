"""The obvious implementation of the update's loss and gradient: nothing shared, nothing chunked, every logit there.

One sample at a time: the teacher reads knowledge, prompt and response in one forward, the student prompt and response
in another, both give logits at every position, and the loss is what the paper writes down (arXiv 2603.16856).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tests.benchmarks.contender import gradients
from tests.benchmarks.workload import Corpus, Workload


@dataclass(frozen=True)
class PlainResult:
    """Reference values of a workload."""

    loss: float
    """The paper's: reverse KL over the student's top-k as it stands, mean over response tokens."""
    renormalised_loss: float
    """Both sides made to sum to one over the top-k first, as TRL's SDFT does."""
    gradients: dict[str, Tensor]
    """Of `loss`, by weight."""
    ties: int
    """Response tokens where rounding decides which token is the k-th."""


_ROUNDING = 2e-6
"""Nats between log-probabilities that two float32 implementations may put in either order."""


def _response_log_probs(model: Any, context: list[int], response: list[int], temperature: float) -> Tensor:
    ids = torch.tensor([context + response], device=model.device)
    logits = model(input_ids=ids, use_cache=False).logits[0]
    return (logits[len(context) - 1 : -1] / temperature).log_softmax(-1)


def _ties(log_probs: Tensor, k: int) -> int:
    if log_probs.shape[-1] <= k:
        return 0
    values = log_probs.detach().topk(k + 1, dim=-1).values
    return int((values[:, k - 1] - values[:, k] < _ROUNDING).sum())


def plain_update(student: Any, teacher: Any, workload: Workload, corpus: Corpus) -> PlainResult:
    """Loss and gradient of the student; no optimiser step."""
    total, renormalised_total, ties = 0.0, 0.0, 0
    for text in corpus.texts:
        with torch.no_grad():
            context = corpus.knowledge[text.file] + text.prompt
            taught = _response_log_probs(teacher, context, text.response, workload.temperature)
        own = _response_log_probs(student, text.prompt, text.response, workload.temperature)
        ties += _ties(own, workload.top_k)
        top = own.detach().topk(min(workload.top_k, own.shape[-1]), dim=-1).indices
        own, taught = own.gather(-1, top), taught.gather(-1, top)
        loss = (own.exp() * (own - taught)).sum() / workload.response_tokens
        loss.backward()
        total += float(loss.detach())
        own, taught = own.detach().log_softmax(-1), taught.log_softmax(-1)
        renormalised_total += float((own.exp() * (own - taught)).sum()) / workload.response_tokens
    return PlainResult(total, renormalised_total, gradients(student), ties)


def relative_difference(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Norm of the difference of all gradients over the norm of the expected ones."""
    if found.keys() != expected.keys():
        raise ValueError(f"gradients of different weights: {sorted(found.keys() ^ expected.keys())[:4]}")
    apart = sum(float((found[name] - expected[name]).double().square().sum()) for name in expected)
    whole = sum(float(expected[name].double().square().sum()) for name in expected)
    return (apart / whole) ** 0.5
