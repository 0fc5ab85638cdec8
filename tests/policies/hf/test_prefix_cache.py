"""Which cached sequence a prompt starts from, and what is dropped when there is no more room."""

from collections import OrderedDict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oel_core.policies.hf.prefix_cache import (
    MIN_BYTES,
    CachedSequence,
    PrefillCache,
    PrefixCache,
    common_length,
    default_capacity,
)
from tests.fakes import tiny_model

CAPACITY = 12
IDS = st.lists(st.integers(0, 2), min_size=1, max_size=CAPACITY + 2).map(tuple)


def sequence(ids: tuple[int, ...]) -> CachedSequence:
    return CachedSequence(ids, ())


@given(st.lists(st.tuples(st.sampled_from(["put", "longest", "exactly"]), IDS), max_size=30))
def test_the_cache_is_a_list_in_order_of_use(steps: list[tuple[str, tuple[int, ...]]]) -> None:
    cache, held = PrefixCache(CAPACITY), OrderedDict[tuple[int, ...], None]()
    for what, ids in steps:
        if what == "put":
            cache.put(sequence(ids))
            held.pop(ids, None)
            if len(ids) <= CAPACITY:
                held[ids] = None
            while sum(map(len, held)) > CAPACITY:
                held.popitem(last=False)
        elif what == "exactly":
            found = cache.get(ids)
            assert (found is not None) == (ids in held)
            if found:
                held.move_to_end(ids)
        else:
            best = max((common_length(known, ids[:-1]) for known in held), default=0)
            reused = cache.longest(ids)
            assert (reused.length if reused else 0) == best
            if reused:
                assert reused.sequence.ids[:best] == ids[:best]
                held.move_to_end(reused.sequence.ids)
        assert cache.tokens == sum(map(len, held)) <= CAPACITY
        assert all(cache.get(known) for known in list(held))  # in order of use, which stays as it is


def test_dropped_sequences_are_not_found_and_unknown_ones_are_no_error() -> None:
    cache = PrefixCache(CAPACITY)
    cache.put(sequence((1, 2, 3)))
    cache.put(sequence((1, 2, 4)))
    cache.drop([(1, 2, 3), (9,)])
    assert cache.tokens == 3
    found = cache.longest((1, 2, 3, 5))
    assert found is not None
    assert (found.sequence.ids, found.length) == ((1, 2, 4), 2)


def test_no_room_holds_nothing() -> None:
    held = PrefillCache()
    held.sequences.put(sequence((1, 2)))
    assert held.sequences.tokens == 0
    assert held.sequences.longest((1, 2, 3)) is None


@pytest.mark.parametrize(("first", "second", "length"), [((), (1,), 0), ((1, 2), (1, 3), 1), ((1, 2), (1, 2, 3), 2)])
def test_common_length(first: tuple[int, ...], second: tuple[int, ...], length: int) -> None:
    assert common_length(first, second) == common_length(second, first) == length


def test_the_default_room_is_half_of_the_weights_and_never_next_to_nothing() -> None:
    model = tiny_model()
    a_token = 2 * 2 * 16 * 4  # keys and values, 2 layers, one head of 16, float32
    assert default_capacity(model) == MIN_BYTES // a_token
    model.lm_head = torch.nn.Linear(4096, 2**13, bias=False)
    weights = sum(weight.nbytes for weight in model.parameters())
    assert weights > 2 * MIN_BYTES
    assert default_capacity(model) == weights // 2 // a_token
