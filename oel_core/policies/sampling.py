"""Token sampling: pure functions from logits and uniform numbers to token ids.

Every random number is a function of (request seed, position in the response), so a request gets the same numbers in any
batch, and no global generator is used.
"""

from collections.abc import Sequence

import numpy as np
import torch

from oel_core.config.sampling import Sampling

_TO_UNIT = 2.0**-53


def uniforms(seeds: Sequence[int], count: int) -> np.ndarray:
    """Uniform numbers in [0, 1), one row per seed. Shape: (len(seeds), count), float64.

    Raw Philox output (counter-based; numpy keeps bit generators stable across versions) truncated to 53 bits. A longer
    row starts with the shorter one.
    """
    rows = np.empty((len(seeds), count))
    for row, seed in enumerate(seeds):
        rows[row] = (np.random.Philox(key=seed).random_raw(count) >> np.uint64(11)) * _TO_UNIT
    return rows


def nucleus(probabilities: torch.Tensor, top_p: float) -> torch.Tensor:
    """Zeroes probabilities outside the smallest set of mass `top_p`; the likeliest token always remains.

    Shape: (rows, n) → (rows, n); every row must be sorted in descending order. Not renormalised.
    """
    before = probabilities.cumsum(-1) - probabilities
    return probabilities.masked_fill(before >= top_p, 0.0)


def invert(weights: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Inverse of the cumulative distribution. Shapes: weights (rows, n) ≥ 0, uniform (rows,) in [0, 1) → (rows,).

    Weights need not sum to 1. An entry of weight zero is never sampled. If weights are not finite, any entry may be.
    """
    cumulative = weights.cumsum(-1, dtype=torch.float64)
    total = cumulative[:, -1]
    # rounding may lift uniform * total to total, which is outside every entry
    target = torch.minimum(uniform * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, target[:, None], right=True)[:, 0].clamp(max=weights.shape[-1] - 1)


def sample_tokens(logits: torch.Tensor, uniform: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Samples one token per row. Shapes: logits (rows, vocabulary), uniform (rows,) float64 → ids (rows,) int64.

    Temperature, then top-k, then top-p: the order of transformers and vLLM. Temperature 0 is greedy.
    """
    if sampling.temperature == 0:
        return logits.argmax(-1)
    scaled = logits.float() / sampling.temperature
    everything = logits.shape[-1]
    if sampling.top_k in (0, everything) and sampling.top_p >= 1:
        return invert(scaled.softmax(-1), uniform)
    kept = min(sampling.top_k or everything, everything)
    scaled, ids = scaled.topk(kept, dim=-1)
    weights = scaled.softmax(-1)
    if sampling.top_p < 1:
        weights = nucleus(weights, sampling.top_p)
    return ids.gather(-1, invert(weights, uniform)[:, None])[:, 0]
