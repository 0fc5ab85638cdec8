"""Prefill of a batch of prompts; common prefixes and cached prefixes are not recomputed."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from oel_core.errors import PolicyError
from oel_core.policies.hf.kv_cache import PreallocatedLayer, preallocated_cache
from oel_core.policies.hf.prefix_cache import CachedSequence, PrefillCache, PrefixCache, Reused, common_length

WORTH_SHARING = 8
"""Shared leading tokens from which on reading them apart is cheaper than reading them in every row."""
WORTH_REUSING = 64
"""Prompt tokens that each row must be spared, on average, before rows start from keys and values of their own: copying
them into the batch costs about as much as reading a few dozen tokens."""
Prompts = Sequence[tuple[int, ...]]
NOT_FINITE = "the model's logits are not finite: its weights are damaged, or its dtype is too narrow"


@dataclass(frozen=True)
class Prefilled:
    """A prefilled batch."""

    logits: Tensor
    """At the last prompt token of every row, (rows, vocabulary)."""
    cache: DynamicCache
    mask: Tensor
    """1 where a column of the cache holds a token of the row, (rows, columns) int64."""
    positions: Tensor
    """Position id of the next token of each row, without padding, (rows,)."""


def pad_left(prompts: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Left-padded ids and mask, both (rows, longest prompt) int64."""
    width = max(map(len, prompts))
    ids = torch.tensor([[pad_id] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    return ids, mask


def shared_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """Length of the common prefix of all prompts, leaving each at least one token of its own."""
    ordered = sorted(map(list, prompts))  # what the first and the last share, all share
    return min(common_length(ordered[0], ordered[-1]), min(map(len, prompts)) - 1)


def prefill(model: Any, prompts: Prompts, pad_id: int, room: int, held: PrefillCache) -> Prefilled:
    """Prefills a batch of prompts.

    Rows start from `held.given`, else from the longest cached prefixes in `held.sequences` or, if that saves more
    tokens, from prefixes that groups of prompts or all of them share. The choice, and so every bit of the result,
    depends on the prompts, `held.given` and `held.sequences` only. Models with a layer that keeps less than all keys
    and values (sliding windows, recurrent states) compute every prompt in full: their states cannot be cut, and padding
    between a prefix and the rest would fall into their windows.

    Args:
        room: maximum sequence length, tokens; the cache is allocated for it.

    Raises:
        PolicyError: the model's logits are not finite.
    """
    cache = preallocated_cache(model.config, room)
    starts = _starts(model, prompts, held) if _can_be_cut(cache) else [None] * len(prompts)
    return _read_rest(model, prompts, pad_id, cache, _load(cache, starts, model.device))


def cached_rows(
    cache: DynamicCache, mask: Tensor, rows: Sequence[int], ids: Sequence[Sequence[int]]
) -> list[CachedSequence]:
    """Copies of some rows' keys and values.

    Args:
        mask: as `Prefilled.mask`, for all rows of the cache.
        ids: tokens of each chosen row. Other columns are left out, as are ids that were not fed to the model.
    """
    if not _can_be_cut(cache):
        return []
    found = []
    held: Sequence[Any] = cache.layers
    for row, tokens in zip(rows, ids, strict=True):
        columns = mask[row].nonzero()[: len(tokens), 0]
        layers = tuple((layer.keys[row][:, columns], layer.values[row][:, columns]) for layer in held)
        found.append(CachedSequence(tuple(tokens[: len(columns)]), layers))
    return found


def _can_be_cut(cache: DynamicCache) -> bool:
    return bool(cache.layers) and all(isinstance(layer, PreallocatedLayer) for layer in cache.layers)


def _starts(model: Any, prompts: Prompts, held: PrefillCache) -> list[Reused | None]:
    """The cached prefix that each row starts from, or None."""
    shared = shared_prefix(prompts) if len(prompts) > 1 else 0
    shared = shared if shared >= WORTH_SHARING else 0
    plain = _cost(prompts, [shared] * len(prompts), {tuple(prompts[0][:shared])})
    given = [_longest_given(held.given, prompt) for prompt in prompts]
    if plain - _cost(prompts, [start.length if start else 0 for start in given], ()) >= WORTH_REUSING:
        return given
    earlier = [held.sequences.longest(prompt) for prompt in prompts]
    if plain - _cost(prompts, [start.length if start else 0 for start in earlier], ()) >= WORTH_REUSING:
        held.sequences.drop(start.sequence.ids for start in earlier if start)  # the rows, read on, take their places
        return earlier
    lengths = _branches(prompts, shared)
    prefixes = {prompt[:length] for prompt, length in zip(prompts, lengths, strict=True)}
    if plain - _cost(prompts, lengths, prefixes) < WORTH_REUSING:
        lengths, prefixes = [shared] * len(prompts), {prompts[0][:shared]}
    read = {ids: _cached_prefix(model, ids, held.prefixes) for ids in sorted(prefixes) if ids}
    starts = [(read.get(prompt[:length]), length) for prompt, length in zip(prompts, lengths, strict=True)]
    return [Reused(sequence, length) if sequence else None for sequence, length in starts]


def _longest_given(given: Collection[CachedSequence], prompt: tuple[int, ...]) -> Reused | None:
    """The longest of these sequences that is a proper prefix of the prompt."""
    fitting = [one for one in given if len(one.ids) < len(prompt) and prompt[: len(one.ids)] == one.ids]
    longest = max(fitting, key=lambda one: len(one.ids), default=None)
    return None if longest is None else Reused(longest, len(longest.ids))


def _cost(prompts: Prompts, lengths: Sequence[int], prefixes: Collection[Sequence[int]]) -> float:
    """Tokens to compute per row: its share of the prefixes, and the longest remainder, to which all rows are padded."""
    rest = max(len(prompt) - length for prompt, length in zip(prompts, lengths, strict=True))
    return sum(map(len, prefixes)) / len(prompts) + rest


def _branches(prompts: Prompts, shared: int) -> list[int]:
    """Length of the prefix that each row shares with other rows (not necessarily all), by the grouping with least
    `_cost`.

    In lexicographic order rows with a common prefix are neighbours, and a group is a run of them.
    """
    order = sorted(range(len(prompts)), key=lambda row: prompts[row])
    alike = [common_length(prompts[one], prompts[other]) for one, other in pairwise(order)]
    best, least = [shared] * len(prompts), float("inf")
    for cut in {length for length in alike if length >= shared + WORTH_REUSING}:
        lengths = [shared] * len(prompts)
        for joined, run in groupby(range(len(alike)), key=lambda at: alike[at] >= cut):
            if joined:
                gaps = list(run)
                rows = order[gaps[0] : gaps[-1] + 2]
                common = min(min(alike[gap] for gap in gaps), min(len(prompts[row]) for row in rows) - 1)
                for row in rows:
                    lengths[row] = common
        cost = _cost(prompts, lengths, {prompts[row][: lengths[row]] for row in order})
        if cost < least:
            best, least = lengths, cost
    return best


def _cached_prefix(model: Any, ids: tuple[int, ...], held: PrefixCache) -> CachedSequence:
    """Keys and values of a prefix, computed alone: they depend on its ids and the weights only."""
    found = held.get(ids)
    if found is None:
        cache = preallocated_cache(model.config, len(ids))
        model(
            input_ids=torch.tensor([ids], device=model.device), past_key_values=cache, use_cache=True, logits_to_keep=1
        )
        layers: Sequence[Any] = cache.layers
        found = CachedSequence(ids, tuple((layer.keys[0], layer.values[0]) for layer in layers))
        held.put(found)
    return found


def _load(cache: DynamicCache, starts: Sequence[Reused | None], device: torch.device) -> Tensor:
    """Copies the rows' prefixes to the right edge of the cache's first columns. Returns the mask of these."""
    lengths = torch.tensor([start.length if start else 0 for start in starts], device=device)
    width = int(lengths.max())
    some = next((start.sequence for start in starts if start), None)
    if some is not None:
        for layer in range(len(some.layers)):
            cache.update(_rows(some, starts, layer, 0, width), _rows(some, starts, layer, 1, width), layer)
    return (torch.arange(width, device=device) >= width - lengths[:, None]).long()


def _rows(some: CachedSequence, starts: Sequence[Reused | None], layer: int, part: int, width: int) -> Tensor:
    """Keys (part 0) or values (1) of one layer, (rows, heads, width tokens, head width), padded with zeros."""
    like = some.layers[layer][part]
    if all(start and start.sequence is some and start.length == width for start in starts):
        return like[:, :width].expand(len(starts), -1, -1, -1)
    rows = like.new_zeros(len(starts), like.shape[0], width, like.shape[2])
    for row, start in zip(rows, starts, strict=True):
        if start:
            row[:, width - start.length :] = start.sequence.layers[layer][part][:, : start.length]
    return rows


@contextmanager
def _contiguous_head_input(model: Any) -> Iterator[None]:
    """Within it the output projection gets contiguous hidden states.

    `logits_to_keep=1` slices (rows, n, H) to (rows, 1, H). PyTorch multiplies such a view row by row instead of as one
    matrix, and in bfloat16 on a CPU copies the (V, H) weights for each row.
    """
    head = model.get_output_embeddings()
    hook = head.register_forward_pre_hook(lambda _, given: (given[0].contiguous(), *given[1:]))
    try:
        yield
    finally:
        hook.remove()


def _read_rest(model: Any, prompts: Prompts, pad_id: int, cache: DynamicCache, known: Tensor) -> Prefilled:
    """Prefills the part of each prompt that is not cached.

    Padding is placed between a row's cached prefix and the rest, so that all rows end at the same column.
    """
    rest = [prompt[length:] for prompt, length in zip(prompts, known.sum(-1).tolist(), strict=True)]
    ids, mask = (part.to(model.device) for part in pad_left(rest, pad_id))
    mask = torch.cat([known, mask], dim=1)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    with _contiguous_head_input(model):
        logits = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions[:, known.shape[1] :],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
    if not torch.isfinite(logits).all():
        raise PolicyError(NOT_FINITE)
    return Prefilled(logits, cache, mask, positions[:, -1] + 1)
