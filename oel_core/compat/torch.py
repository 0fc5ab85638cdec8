"""Attention that also returns the log-sum-exp of its scores; torch has kernels for it but no public function."""

import torch
from torch import Tensor


def cpu_attention_with_lse(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float, *, causal: bool
) -> tuple[Tensor, Tensor]:
    """Flash attention on a CPU.

    Args:
        query: (1, Hq, n, D).
        key: (1, Hk, m, D); so is `value`.
        bias: (n, m), added to the scores; instead of `causal`.
        scale: multiplies the scores.
        causal: query i sees keys 0 to i.

    Returns:
        (1, Hq, n, D) and the log-sum-exp (1, Hq, n).
    """
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, 0.0, causal, attn_mask=bias, scale=scale
    )
    return out, lse


def cuda_attention_with_lse(
    query: Tensor, key: Tensor, value: Tensor, scale: float, *, causal: bool
) -> tuple[Tensor, Tensor]:
    """Flash attention on a GPU, float16 or bfloat16, as many key heads as query heads; otherwise as on a CPU."""
    found = torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, 0.0, causal, False, scale=scale)
    return found[0], found[1]
