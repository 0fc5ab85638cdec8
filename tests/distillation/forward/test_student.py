"""Micro-batches: which tokens count, and that batches are filled up to the budget."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oel_core.distillation.data.dataset import Sample
from oel_core.distillation.forward.prefix_tree import WORTH_SHARING, PackedRow, as_ids
from oel_core.distillation.forward.student import _packed_batches, _padded
from oel_core.distillation.training.rollouts import Rollout


def rollout(prompt, response):
    sample = Sample("e/turn0", 0, prompt, prompt, knowledge_index=0, replica=0, seed=0)
    return Rollout(sample, response, truncated=False)


def alike(count, shared):
    """Rollouts that share so many tokens and have three of their own."""
    return [rollout([*range(1000, 1000 + shared), index], [index, index]) for index in range(count)]


@pytest.mark.parametrize(
    ("budget", "sizes"),
    [(WORTH_SHARING + 9, [3, 3]), (WORTH_SHARING + 8, [2, 2, 2]), (WORTH_SHARING + 12, [4, 2]), (1, [1] * 6)],
)
def test_packed_prompts_count_what_they_share_once_a_batch(budget, sizes):
    batches = _packed_batches(alike(6, WORTH_SHARING)[::-1], budget)
    assert [len(batch) for batch in batches] == sizes
    assert [one.response[0] for batch in batches for one in batch] == list(range(6))


@pytest.mark.parametrize(("budget", "sizes"), [(0, [2, 2]), (-1, [1] * 4)])
def test_a_short_common_beginning_is_counted_in_every_sequence(budget, sizes):
    shared = WORTH_SHARING - 1
    batches = _packed_batches(alike(4, shared), 2 * (shared + 3) + budget)
    assert [len(batch) for batch in batches] == sizes


@pytest.mark.parametrize(
    ("budget", "lengths"),
    [(14, [[5, 7], [10]]), (13, [[5], [7], [10]]), (30, [[5, 7, 10]]), (10, [[3, 3], [5, 5], [6]])],
)
def test_padding_counts(budget, lengths):
    rollouts = [rollout([1] * (length - 2), [2, 2]) for batch in lengths[::-1] for length in batch]
    assert [[one.length for one in batch] for batch in _padded(rollouts, budget)] == lengths


RUNS = st.lists(st.tuples(st.integers(0, 1), st.integers(1, 24)), min_size=1, max_size=4)
"""A sequence as runs of equal tokens, so that many begin alike for some tokens."""


@settings(max_examples=200, deadline=None)
@given(st.lists(RUNS, min_size=1, max_size=12), st.integers(1, 120))
def test_no_packed_row_exceeds_its_budget_and_none_could_take_the_next_rollout(sequences, budget):
    texts = [[token for token, length in runs for _ in range(length)] for runs in sequences]
    rollouts = [rollout(text, [7, index]) for index, text in enumerate(texts)]
    batches = _packed_batches(rollouts, budget)
    assert sorted(one.response[1] for batch in batches for one in batch) == list(range(len(texts)))
    assert all(len(batch) == 1 or row_tokens(batch) + len(batch) <= budget for batch in batches)
    for batch, after in pairwise(batches):
        assert row_tokens([*batch, after[0]]) + len(batch) + 1 > budget


def row_tokens(batch):
    """Tokens that a forward really reads."""
    row = PackedRow()
    row.add([as_ids(one.sample.prompt, one.response[:-1]) for one in batch], 0)
    return row.tokens
