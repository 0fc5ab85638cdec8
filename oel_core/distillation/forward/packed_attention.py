"""Tree attention over a packed row: each span attends to its ancestors and itself, and to a cached prefix.

Registered with transformers' `AttentionInterface`, so any architecture that dispatches through it can read a
`PackedRow` without an attention mask over T x T. A prefix (a knowledge file's keys and values, computed before) is
attended by all queries of its group at once and is never copied per row: both parts give their log-sum-exp, by which
they are merged exactly (the identity behind FlashAttention, arXiv 2205.14135, and cascade inference).

Shape legend: T tokens of the row, P of a prefix, Hq query heads, Hk key heads (Hq a multiple of Hk), D head width.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

from oel_core.compat.torch import cpu_attention_with_lse, cuda_attention_with_lse
from oel_core.distillation.forward.prefix_tree import Span
from oel_core.errors import DistillationError
from oel_core.models.attention import attends_by, attention_set_to

NAME = "oel_packed"
_SCORES = 2**25
"""Maximum attention scores in memory at once without a fused kernel that returns the log-sum-exp."""
_UNSUPPORTED = ("softcap", "s_aux", "position_bias", "head_mask")


class LayerCache(Protocol):
    """Keys and values of one prefix, by layer."""

    def layer(self, index: int) -> tuple[Tensor, Tensor]:
        """Keys and values, both (1, Hk, P, D), on the model's device."""
        ...


@dataclass(frozen=True)
class Group:
    """Consecutive spans that continue the same prefix."""

    first: int
    """First span."""
    last: int
    """Index after the last span."""
    tokens: slice
    """Their tokens in the row."""
    prefix: LayerCache


@dataclass(frozen=True)
class Layout:
    """The attention pattern of a row."""

    spans: Sequence[Span]
    max_length: int
    """Length of the longest sequence, prefix included, tokens: a sliding window must not be shorter."""
    groups: Sequence[Group] = ()
    """Empty without prefixes; otherwise they cover the row. Supported without gradient only."""
    _masks: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    def mask(self, span: Span, device: torch.device) -> Tensor:
        """True where a query of the span (rows) attends to a key of its ancestors or its own (columns)."""
        key = (span.length, span.depth)
        if key not in self._masks:
            everything = torch.ones(span.length, span.depth + span.length, dtype=torch.bool, device=device)
            self._masks[key] = everything.tril(span.depth)
        return self._masks[key]


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    layout: Layout | None = None,
    **other: Any,
) -> tuple[Tensor, None]:
    """The attention function. `query` is (1, Hq, T, D), `key` and `value` (1, Hk, T, D); returns (1, T, Hq, D).

    Dropout is not applied: student and teacher must be the distributions that are sampled from.

    Raises:
        DistillationError: the architecture needs an attention feature that packed rows do not support.
    """
    wanted = [name for name in _UNSUPPORTED if other.get(name) is not None]
    if layout is None or attention_mask is not None or wanted:
        raise DistillationError(f"packed attention cannot do {', '.join(wanted) or 'without its layout'}")
    if sliding_window is not None and sliding_window < layout.max_length:
        raise DistillationError(f"packed attention cannot cut at a window of {sliding_window} tokens")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if layout.groups:
        index = int(module.layer_idx)  # type: ignore[arg-type]
        return _attend_prefixes(query, key, value, layout, scale, index).transpose(1, 2), None
    parts = _Parts(query, key, value, layout)
    rows = [_own(parts, number, scale) for number in range(len(layout.spans))]
    return torch.cat(rows, dim=2).transpose(1, 2), None


class _Parts:
    """Queries, keys and values split by span: one concatenation in the backward instead of a sum over slices."""

    def __init__(self, query: Tensor, key: Tensor, value: Tensor, layout: Layout) -> None:
        lengths = [span.length for span in layout.spans]
        self.layout = layout
        self.query, self._keys, self._values = (tensor.split(lengths, dim=2) for tensor in (query, key, value))

    def keys(self, number: int) -> Tensor:
        return self._seen(self._keys, number)

    def values(self, number: int) -> Tensor:
        return self._seen(self._values, number)

    def mask(self, number: int) -> Tensor | None:
        """None where it equals a plain causal mask."""
        span = self.layout.spans[number]
        return self.layout.mask(span, self.query[number].device) if span.context else None

    def _seen(self, parts: Sequence[Tensor], number: int) -> Tensor:
        context = self.layout.spans[number].context
        return torch.cat([parts[at] for at in (*context, number)], dim=2) if context else parts[number]


def _own(parts: _Parts, number: int, scale: float) -> Tensor:
    """A span's attention to its ancestors and itself, differentiable: (1, Hq, n, D)."""
    query, key, value = parts.query[number], parts.keys(number), parts.values(number)
    mask = parts.mask(number)
    grouped = query.shape[1] != key.shape[1]
    if grouped and mask is not None and query.device.type != "cpu":  # fused kernels there take one or the other
        key, value = (_per_query_head(tensor, query.shape[1]) for tensor in (key, value))
        grouped = False
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=grouped
    )


def _attend_prefixes(query: Tensor, key: Tensor, value: Tensor, layout: Layout, scale: float, layer: int) -> Tensor:
    parts = _Parts(query, key, value, layout)
    rows = []
    for group in layout.groups:
        numbers = range(group.first, group.last)
        own = [
            attend_with_lse(
                parts.query[number], parts.keys(number), parts.values(number), parts.mask(number), scale, causal=True
            )
            for number in numbers
        ]
        own_out = torch.cat([out for out, _ in own], dim=2)
        own_lse = torch.cat([lse for _, lse in own], dim=2)
        keys, values = group.prefix.layer(layer)
        seen, lse = attend_with_lse(query[:, :, group.tokens], keys, values, None, scale, causal=False)
        share = torch.sigmoid(lse - own_lse).unsqueeze(-1).to(own_out.dtype)
        rows.append(torch.lerp(own_out, seen, share))
    return torch.cat(rows, dim=2)


def attend_with_lse(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float, *, causal: bool
) -> tuple[Tensor, Tensor]:
    """Attention and the log-sum-exp of its scores, without gradient.

    Args:
        query: (1, Hq, n, D).
        key: (1, Hk, m, D); so is `value`.
        mask: (n, m), True where a query attends; instead of `causal`.
        scale: multiplies the scores.
        causal: without a mask: query i sees keys 0 to i.

    Returns:
        (1, Hq, n, D) in the query's dtype and (1, Hq, n) in float32 or better.
    """
    causal = causal and mask is None
    if query.device.type == "cpu" and query.dtype in (torch.float64, torch.float32, torch.bfloat16):
        added = None if mask is None else torch.zeros_like(mask, dtype=query.dtype).masked_fill_(~mask, -torch.inf)
        out, lse = cpu_attention_with_lse(query, key, value, added, scale, causal=causal)
        return out, lse.to(torch.promote_types(query.dtype, torch.float32))
    if query.device.type == "cuda" and mask is None and query.dtype in (torch.float16, torch.bfloat16):
        heads = query.shape[1]
        key, value = _per_query_head(key, heads), _per_query_head(value, heads)
        out, lse = cuda_attention_with_lse(query, key, value, scale, causal=causal)
        return out, lse.float()
    return _plain_with_lse(query, key, value, mask, scale, causal=causal)


def _plain_with_lse(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float, *, causal: bool
) -> tuple[Tensor, Tensor]:
    """As `attend_with_lse`, by matrix products over blocks of queries; grouped-query heads share their keys."""
    heads, length, key_heads = query.shape[1], query.shape[2], key.shape[1]
    if causal:
        mask = torch.ones(length, key.shape[2], dtype=torch.bool, device=query.device).tril()
    folded = query.reshape(1, key_heads, heads // key_heads, length, -1)
    outs, sums = [], []
    block = max(1, _SCORES // (heads * key.shape[2]))
    for start in range(0, length, block):
        rows = slice(start, start + block)
        scores = torch.einsum("bhgnd,bhmd->bhgnm", folded[..., rows, :], key)
        scores = scores.to(torch.promote_types(query.dtype, torch.float32)) * scale
        if mask is not None:
            scores = scores.masked_fill(~mask[rows], -torch.inf)
        lse = scores.logsumexp(-1)
        weights = (scores - lse.unsqueeze(-1)).exp().to(value.dtype)
        outs.append(torch.einsum("bhgnm,bhmd->bhgnd", weights, value))
        sums.append(lse)
    out, lse = torch.cat(outs, dim=3), torch.cat(sums, dim=3)
    return out.reshape(query.shape), lse.reshape(query.shape[:3])


def _per_query_head(tensor: Tensor, heads: int) -> Tensor:
    return tensor.repeat_interleave(heads // tensor.shape[1], dim=1) if tensor.shape[1] != heads else tensor


AttentionInterface.register(NAME, attend)


@contextmanager
def packed_attention(model: PreTrainedModel) -> Iterator[None]:
    """Switches a model to packed attention. Must cover the backward too: checkpointed layers run again there.

    Raises:
        ValueError: the model's attention cannot be replaced, so tokens of one sequence would attend to another's.
    """
    with attention_set_to(model, NAME):
        if not attends_by(model, NAME):
            raise ValueError("its attention cannot be replaced")
        yield
