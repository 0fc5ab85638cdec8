"""Which tokens a correct implementation may sample. Rounding moves the borders between tokens, so the answers of two
code paths are not compared with each other: each is held against the model's own logits for what it has written so far.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch

from oel_core.config.sampling import Sampling
from oel_core.policies.sampling import uniforms
from tests.rounding import forward_rounding, rounding


def assert_drawn(
    model: Any, prompt: Sequence[int], response: Sequence[int], seed: int, sampling: Sampling, stops: Sequence[int]
) -> None:
    """A response ends at its first stop token or its cap, and each token is one that may come after those before it.

    Args:
        model: a transformers model; it reads prompt and response in one forward.
        prompt: token ids.
        response: token ids.
        seed: of the request.
        sampling: how the tokens were drawn.
        stops: token ids that end a response.
    """
    ended = [token in stops for token in response]
    assert len(response) == sampling.max_tokens or ended[-1]
    assert not any(ended[:-1])
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*prompt, *response]])).logits[0, len(prompt) - 1 : -1]
    off = forward_rounding(model, logits, len(prompt) + len(response))
    for place, (row, uniform) in enumerate(zip(logits, uniforms([seed], len(response))[0], strict=True)):
        assert response[place] in possible(row, float(uniform), sampling, off), f"token {place} of {response}"


def possible(logits: torch.Tensor, uniform: float, sampling: Sampling, off: float = 0.0) -> set[int]:
    """The tokens that a uniform number may draw: one, unless it lies on a border up to rounding.

    Args:
        logits: of one position, shape (vocabulary,).
        uniform: in [0, 1).
        sampling: temperature, then top-k, then top-p.
        off: most that each of two right computations of a logit may be apart from the other.
    """
    values = logits.double()
    if sampling.temperature == 0:
        return set((values >= values.max() - 2 * off).nonzero()[:, 0].tolist())
    everything = len(values)
    kept, order = values.topk(min(sampling.top_k or everything, everything))
    shares = (kept / sampling.temperature).softmax(-1)
    # a share's relative error: of its logit, of the exponent's own size, and of the sum of all
    span = float(kept[0] - kept[-1]) / sampling.temperature
    slack = math.expm1(2 * off / sampling.temperature) + rounding(1 + span, len(kept))
    found: set[int] = set()
    for reach in {sampling.top_p} if sampling.top_p >= 1 else {sampling.top_p - slack, sampling.top_p + slack}:
        weights, ids = shares.masked_fill(shares.cumsum(-1) - shares >= reach, 0.0), order
        if sampling.top_k in (0, everything) and sampling.top_p >= 1:
            ids, place = order.sort()  # then the shares are added up by token
            weights = weights[place]
        upper = weights.cumsum(-1)
        target = uniform * upper[-1]
        near = (upper - weights - slack <= target) & (target <= upper + slack) & (weights > 0)
        found |= set(ids[near].tolist())
    return found | _exchangeable(values, found, off)


def _exchangeable(values: torch.Tensor, tokens: set[int], off: float) -> set[int]:
    """Tokens whose logits are so close to one of these that either may come first in the order of the likeliest."""
    if not off:
        return set()
    return {other for token in tokens for other in ((values - values[token]).abs() <= 2 * off).nonzero()[:, 0].tolist()}
