"""Packed rows: every sequence is present, at its positions, and attends to the same tokens as alone."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from oel_core.distillation.forward.prefix_tree import WORTH_SHARING, PackedRow, as_ids


@st.composite
def sequences(draw):
    """Sequences that partly begin alike: continuations of each other, equal ones, prefixes of others."""
    pool = [draw(st.lists(st.integers(0, 2), min_size=1, max_size=50))]
    for _ in range(draw(st.integers(0, 8))):
        base = pool[draw(st.integers(0, len(pool) - 1))]
        kept = base[: draw(st.integers(0, len(base)))]
        pool.append([*kept, *draw(st.lists(st.integers(0, 2), max_size=30))] or [1])
    return [as_ids(ids) for ids in pool]


@settings(max_examples=200, deadline=None)
@given(trees=st.lists(sequences(), min_size=1, max_size=3), first=st.integers(0, 100))
def test_every_sequence_lies_in_the_row_and_sees_exactly_itself(trees, first):
    row = PackedRow()
    placed = [(tree, row.add(tree, first)) for tree in trees]
    ids, positions = np.concatenate(row.ids), np.concatenate(row.positions)
    assert sum(span.length for span in row.spans) == row.tokens == len(ids)
    owner = np.repeat(np.arange(len(row.spans)), [span.length for span in row.spans])
    for tree, places in placed:
        for sequence, place in zip(tree, places, strict=True):
            assert ids[place].tolist() == sequence.tolist()
            assert positions[place].tolist() == list(range(first, first + len(sequence)))
            span = row.spans[owner[place[-1]]]
            seen = [*span.context, owner[place[-1]]]
            assert list(dict.fromkeys(owner[place].tolist())) == seen
            assert span.depth == sum(row.spans[number].length for number in span.context)


def test_what_is_shared_is_stored_once():
    start = list(range(WORTH_SHARING))
    row = PackedRow()
    row.add([as_ids(start, [100 + index]) for index in range(5)], 0)
    assert row.tokens == WORTH_SHARING + 5
    short = PackedRow()
    short.add([as_ids(start[1:], [100 + index]) for index in range(5)], 0)
    assert short.tokens == 5 * WORTH_SHARING  # not worth a node


def test_turns_of_an_episode_cost_their_last_turn():
    turns = [as_ids(range(40 * turn)) for turn in range(1, 6)]
    row = PackedRow()
    row.add(turns[::-1], 0)
    assert row.tokens == 200
    assert [span.depth for span in row.spans] == [0, 40, 80, 120, 160]
