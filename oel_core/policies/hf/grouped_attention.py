"""Decoding attention for grouped-query models, without repeating keys and values for every query head.

transformers repeats keys and values where several query heads share one (grouped-query attention, arXiv 2305.13245) and
padding needs a mask. With one query token per row, the query heads of a group can be treated as several queries of one
head: the same products without a copy.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "oel_grouped"
_OTHERS = ("position_bias", "cache", "s_aux", "softcap")


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **other: Any,
) -> tuple[Tensor, None]:
    """The attention function; inputs with more than one query per row use transformers' own.

    Shapes: query (rows, Hq, n, D), key and value (rows, Hk, length, D), Hq a multiple of Hk, mask (rows, 1, n, length);
    returns (rows, n, Hq, D).
    """
    rows, heads, queries, width = query.shape
    shared = key.shape[1]
    unusual = dropout or any(other.get(name) is not None for name in _OTHERS)
    if queries > 1 or heads == shared or unusual:
        own: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **other
        )
        return own
    grouped = query.reshape(rows, shared, heads // shared, width)
    found = F.scaled_dot_product_attention(grouped, key, value, attn_mask=attention_mask, scale=scaling)
    return found.reshape(rows, 1, heads, width), None


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
