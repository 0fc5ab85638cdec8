"""Tests of two groups of sessions: they find what is there, and little where nothing is."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oel_core.gate.evidence import required
from oel_core.health.drift import evidence_of_worse, fewer_right, other_requests

SHOP = ("close order A{}", "reopen order B{}", "who owns ticket {}?", "refund {} for order C")


def requests(seed: int, count: int, *extra: str) -> list[str]:
    draw = random.Random(seed)
    return [draw.choice([*SHOP, *extra]).format(draw.randrange(1000)) for _ in range(count)]


def test_requests_of_another_kind_are_found() -> None:
    assert other_requests(requests(0, 50), requests(1, 50, *["translate this letter into French"] * 3)) <= 0.001


def test_numbers_alone_make_no_other_requests() -> None:
    before = [f"close order A{number}" for number in range(50)]
    after = [f"close order A{number}" for number in range(5000, 5050)]
    assert other_requests(before, after) == 1.0


def test_the_same_requests_are_seldom_called_other() -> None:
    chances = [other_requests(requests(seed, 20), requests(1000 + seed, 20)) for seed in range(60)]
    assert sum(chance <= 0.05 for chance in chances) <= 8  # 3 expected; 9 or more of 60 has a probability of 0.3%


def test_texts_without_words_can_be_compared() -> None:
    assert other_requests(["", "1"], ["2", ""]) == 1.0


@pytest.mark.parametrize(("before", "after", "found"), [((45, 50), (20, 50), True), ((45, 50), (44, 50), False)])
def test_a_fall_of_success_is_found(before: tuple[int, int], after: tuple[int, int], found: bool) -> None:
    outcomes = [[True] * right + [False] * (rated - right) for right, rated in (before, after)]
    assert (fewer_right(outcomes[0], outcomes[1]) <= 0.001) is found


def test_a_worse_version_is_shown_worse_and_a_better_one_never() -> None:
    worse = evidence_of_worse([True] * 40, [False] * 40, 0.0)
    assert worse > required(0.01) > evidence_of_worse([False] * 40, [True] * 40, 0.0)
    assert evidence_of_worse([], [True], 0.0) == 0.0


@given(st.lists(st.booleans(), max_size=30), st.lists(st.booleans(), max_size=30), st.sampled_from([0.0, 0.1]))
def test_evidence_is_a_number_for_any_sessions(before: list[bool], after: list[bool], margin: float) -> None:
    found = evidence_of_worse(before, after, margin)
    assert found == found
    assert found <= evidence_of_worse(before, after, 0.0) + 1e-9


def test_looking_after_every_session_is_seldom_wrong() -> None:
    """An unchanged version, looked at 200 times: at level 0.05 at most 5% of such lives have a false alarm."""
    wrong = 0
    for seed in range(100):
        draw = random.Random(seed)
        before, after = ([draw.random() < 0.7 for _ in range(200)] for _ in range(2))
        wrong += any(evidence_of_worse(before, after[:seen], 0.0) >= required(0.05) for seen in range(1, 201))
    assert wrong <= 10  # 5 at most expected; more than 10 of 100 has a probability of 1%
