"""Packs token sequences with common prefixes into one row, each prefix once and without padding.

Prompts of one run share their instructions, and turns of one episode share the earlier turns. Sorted, such sequences
form a prefix tree (radix tree) whose nodes are runs of tokens. A causal model's hidden states at a node depend on its
ancestors and itself only, so each node is computed once, and its gradient is the sum over its descendants.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int32]

WORTH_SHARING = 16
"""Minimum length of a common prefix, tokens, from which sharing it is cheaper than repeating it."""


@dataclass(frozen=True)
class Span:
    """A run of tokens of the row: a node of the tree."""

    length: int
    """Tokens."""
    context: tuple[int, ...]
    """Positions of the ancestors in the list of spans, outermost first."""
    depth: int
    """Total length of the ancestors, tokens."""


@dataclass
class PackedRow:
    """Packed sequences. T tokens in all; spans are consecutive and cover the row."""

    ids: list[Ids] = field(default_factory=list)
    """Token ids, one array a span."""
    positions: list[Ids] = field(default_factory=list)
    """Position of each token in its own sequence, one array a span."""
    spans: list[Span] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    """Where each span starts in the row."""
    tokens: int = 0
    """T."""

    def add(self, sequences: Sequence[Ids], first_position: int) -> list[NDArray[np.int64]]:
        """Adds a tree of sequences, none empty.

        Args:
            sequences: token ids, in any order.
            first_position: position id of their first tokens: the length of a prefix that is cached elsewhere.

        Returns:
            For each sequence, the indices of its tokens in the row.
        """
        order = sorted(range(len(sequences)), key=lambda index: sort_key(sequences[index]))
        ordered = [sequences[index] for index in order]
        shared = [0] + [common_length(a, b) for a, b in pairwise(ordered)]
        places: list[NDArray[np.int64]] = [np.empty(0, np.int64)] * len(sequences)
        pending: list[tuple[int, int, int, tuple[int, ...]]] = [(0, len(ordered), 0, ())]
        while pending:
            first, last, depth, context = pending.pop()
            branches = list(_branches(ordered, shared, first, last, depth))
            for start, stop, end in branches:
                inner = context
                if end > depth:
                    inner = (*context, self._add_span(ordered[start][depth:end], context, depth, first_position))
                if stop - start == 1:
                    places[order[start]] = self._path(inner)
                else:
                    pending.append((start, stop, end, inner))
        return places

    def _add_span(self, ids: Ids, context: tuple[int, ...], depth: int, first_position: int) -> int:
        self.ids.append(ids)
        self.positions.append(np.arange(len(ids), dtype=np.int32) + np.int32(first_position + depth))
        self.spans.append(Span(len(ids), context, depth))
        self.starts.append(self.tokens)
        self.tokens += len(ids)
        return len(self.spans) - 1

    def _path(self, spans: Sequence[int]) -> NDArray[np.int64]:
        return np.concatenate([self.starts[span] + np.arange(self.spans[span].length) for span in spans])


def _branches(
    ordered: Sequence[Ids], shared: Sequence[int], first: int, last: int, depth: int
) -> list[tuple[int, int, int]]:
    """Runs of sequences with a common prefix beyond `depth`: first, one past the last, end of the common prefix."""
    found = []
    start = first
    while start < last:
        stop, end = start + 1, len(ordered[start])
        while stop < last and shared[stop] - depth >= WORTH_SHARING:
            end = min(end, shared[stop])
            stop += 1
        found.append((start, stop, end))
        start = stop
    return found


def packed_tokens(ordered: Sequence[Ids], shared: Sequence[int]) -> int:
    """Length of the row that `PackedRow.add` makes of some sequences, tokens.

    Args:
        ordered: token ids, sorted by `sort_key`.
        shared: how many leading tokens each has in common with the one before it; 0 for the first.
    """
    total, pending = 0, [(0, len(ordered), 0)]
    while pending:
        first, last, depth = pending.pop()
        for start, stop, end in _branches(ordered, shared, first, last, depth):
            total += end - depth
            if stop - start > 1:
                pending.append((start, stop, end))
    return total


def as_ids(*parts: Sequence[int]) -> Ids:
    """Concatenates token ids."""
    return np.concatenate([np.asarray(part, dtype=np.int32) for part in parts])


def sort_key(ids: Ids) -> bytes:
    """Lexicographic order by token id, so that sequences with a common prefix are neighbours."""
    return ids.astype(">i4").tobytes()


def common_length(first: Ids, second: Ids) -> int:
    """Length of the common prefix, tokens."""
    shortest = min(len(first), len(second))
    differing = np.flatnonzero(first[:shortest] != second[:shortest])
    return int(differing[0]) if len(differing) else shortest
