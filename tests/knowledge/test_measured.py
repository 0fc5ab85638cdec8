"""What an item is worth: files with it against files without it, where the difference is clear."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oel_core.knowledge.measured import item_values
from oel_core.knowledge.selection_records import Score
from oel_core.types import Knowledge
from tests.builders import item, knowledge_of

A, B, C = "- a", "- b", "- c"


def score(passed: int, episodes: int = 32) -> Score:
    return Score(
        episodes=episodes,
        passed=passed,
        pass_rate=passed / episodes,
        ci95=(0.0, 1.0),
        response_tokens=1.0,
        errors=0,
    )


def values(*files: tuple[tuple[str, ...], int], episodes: int = 32) -> dict[str, float]:
    made: list[Knowledge] = [knowledge_of(*map(item, texts), replica=at) for at, (texts, _) in enumerate(files)]
    return item_values(made, {at: score(passed, episodes) for at, (_, passed) in enumerate(files)})


def test_a_false_item_costs_what_its_files_pass_less() -> None:
    found = values(((A, B), 4), ((A,), 28), ((A, C), 28))
    assert found == {B: 4 / 32 - 56 / 64, C: 28 / 32 - 32 / 64}  # a is in all files


def test_a_difference_within_two_standard_errors_is_none() -> None:
    assert values(((A,), 18), ((B,), 14)) == {}
    assert values(((A,), 180), ((B,), 140), episodes=320) == {A: 0.125, B: -0.125}


def test_equal_files_were_played_once_and_count_once() -> None:
    assert values(((A,), 18), ((B,), 11)) == {}
    assert values(((A,), 18), ((A,), 18), ((A,), 18), ((B,), 11), ((B,), 11)) == {}


def test_files_that_were_not_scored_say_nothing() -> None:
    files = [knowledge_of(item(A), replica=0), knowledge_of(item(B), replica=1)]
    assert item_values(files, {0: score(32)}) == {}
    assert item_values(files, {}) == {}


@given(st.lists(st.tuples(st.sets(st.sampled_from((A, B, C)), min_size=1), st.integers(0, 32)), max_size=6))
def test_values_are_differences_of_rates_and_opposite_for_opposite_items(files: list[tuple[set[str], int]]) -> None:
    found = values(*((tuple(sorted(texts)), passed) for texts, passed in files))
    assert all(-1 <= value <= 1 and value for value in found.values())
    apart = [(texts, passed) for texts, passed in files if (A in texts) != (B in texts)]
    if len(apart) == len(files) and A in found:
        assert found[B] == pytest.approx(-found[A])
