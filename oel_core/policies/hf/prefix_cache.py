"""KV caches of token sequences, found by the longest common prefix of token ids."""

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from torch import Tensor

MIN_BYTES = 64 * 2**20
"""Minimum size of the cache, for very small models."""
PREFIX_DIVISOR = 8
"""The capacity for prefixes is the capacity for sequences divided by this, since there are few prefixes."""


@dataclass(frozen=True, eq=False)
class CachedSequence:
    """Keys and values of a token sequence from its first token on; read-only."""

    ids: tuple[int, ...]
    layers: tuple[tuple[Tensor, Tensor], ...]
    """Keys and values of each layer, (heads, tokens, width) each."""


@dataclass(frozen=True, eq=False)
class Reused:
    """The first `length` tokens of a cached sequence."""

    sequence: CachedSequence
    length: int


def common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """Length of the common prefix of two sequences."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((at for at, (one, other) in pairs if one != other), min(len(first), len(second)))


class PrefixCache:
    """Cached sequences with LRU eviction.

    Args:
        capacity: maximum tokens of all sequences together; 0 disables the cache.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.tokens = 0
        """Of all cached sequences."""
        self._by_use: OrderedDict[tuple[int, ...], CachedSequence] = OrderedDict()
        self._sorted: list[tuple[int, ...]] = []

    def put(self, sequence: CachedSequence) -> None:
        """Adds a sequence, unless it alone is longer than the capacity."""
        ids = sequence.ids
        self.drop([ids])
        if not 0 < len(ids) <= self.capacity:
            return
        self._by_use[ids] = sequence
        insort(self._sorted, ids)
        self.tokens += len(ids)
        while self.tokens > self.capacity:
            self.drop([next(iter(self._by_use))])

    def drop(self, sequences: Iterable[tuple[int, ...]]) -> None:
        """Removes sequences by their ids; unknown ids are ignored."""
        for ids in sequences:
            if self._by_use.pop(ids, None) is not None:
                del self._sorted[bisect_left(self._sorted, ids)]
                self.tokens -= len(ids)

    def get(self, ids: tuple[int, ...]) -> CachedSequence | None:
        """The cached sequence with exactly these ids, or None."""
        found = self._by_use.get(ids)
        if found is not None:
            self._by_use.move_to_end(ids)
        return found

    def longest(self, ids: tuple[int, ...]) -> Reused | None:
        """The longest prefix of `ids` that a cached sequence has; excludes the last id, which a forward needs."""
        at = bisect_left(self._sorted, ids)  # in lexicographic order the longest common prefix is a neighbour's
        shared = {near: common_length(near, ids[:-1]) for near in self._sorted[max(0, at - 1) : at + 1]}
        best = max(shared, key=lambda near: shared[near], default=None)
        if best is None or shared[best] == 0:
            return None
        self._by_use.move_to_end(best)
        return Reused(self._by_use[best], shared[best])


@dataclass(frozen=True)
class PrefillCache:
    """Caches for the prefills of one model, valid while its weights are unchanged.

    Prefixes are computed alone, so their keys and values depend on their ids only, and whether one is cached changes no
    result. A sequence's keys and values depend on its batches, so sequences may be cached only among calls that are
    always repeated together.
    """

    prefixes: PrefixCache = field(default_factory=lambda: PrefixCache(0))
    """Common prefixes of several prompts."""
    sequences: PrefixCache = field(default_factory=lambda: PrefixCache(0))
    """Prompts with their responses."""
    given: Sequence[CachedSequence] = ()
    """Prefixes computed and owned by the caller, such as the teacher's knowledge. Results depend on them."""

    @classmethod
    def of(cls, capacity: int, given: Sequence[CachedSequence] = ()) -> Self:
        """An empty cache for a series of calls, with capacity for `capacity` tokens of sequences."""
        return cls(PrefixCache(capacity // PREFIX_DIVISOR), PrefixCache(capacity), given)


def default_capacity(model: Any) -> int:
    """Number of tokens whose keys and values take half as much memory as the model's weights, at least `MIN_BYTES`.

    Depends on the model alone: the cached contents must not depend on the free memory.
    """
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    weights = list(model.parameters())
    numbers = 2 * config.num_hidden_layers * heads * width
    bytes_ = max(MIN_BYTES, sum(weight.nbytes for weight in weights) // 2)
    return int(bytes_ // (numbers * weights[0].element_size()))
