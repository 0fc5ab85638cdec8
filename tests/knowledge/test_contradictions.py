"""Contradictions: items with the same subject and different statements."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oel_core.knowledge.contradictions import contradictions, sides
from oel_core.prompts.extraction.itemised import MARKER
from tests.builders import item


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"{MARKER} 'Close A7.' is done with: shop end A7", ("close a7", "shop end A7")),
        (f"{MARKER} Close A7  is done with: `shop: end -> A7`.", ("close a7", "shop: end -> A7")),
        (f"{MARKER} H -> hole", ("h", "hole")),
        (f"{MARKER} 'H' means a hole.", ("h", "a hole")),
        (f"{MARKER} prices: in cents", ("prices", "in cents")),
        (f"{MARKER} note: H means hole", ("note: h", "hole")),
        (f"{MARKER} 'H' is a hole", ("h", "is a hole")),
        (f"{MARKER} 'K' is a key: pick it up.", ("k", "is a key: pick it up")),
        (f"{MARKER} H is a hole", None),  # the marker's own colon is none
        (f"{MARKER} prices:", None),
        ("H: hole\nG: goal", None),
    ],
)
def test_the_sides_of_an_item(text, found):
    assert sides(text) == found


def test_items_of_one_left_side_with_different_right_sides_are_found_together():
    texts = [
        "'Close A7' is done with: shop end A7",
        "H means hole",
        "close A7 is done with: shop close A7",
        "'h' means 'hole'.",
        "G means goal",
        "'Close A7.' is done with: `shop end A7`",
        "no form",
        "no form",
    ]
    assert contradictions([item(f"{MARKER} {text}") for text in texts]) == [(0, 2, 5)]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz")), max_size=12))
def test_groups_are_whole_and_disagree(pairs):
    found = contradictions([item(f"{MARKER} {left} -> {right}") for left, right in pairs])
    wanted = [
        tuple(place for place, pair in enumerate(pairs) if pair[0] == left)
        for left in dict.fromkeys(left for left, _ in pairs)
        if len({right for other, right in pairs if other == left}) > 1
    ]
    assert found == wanted


@given(st.text())
def test_any_text_has_two_sides_or_none(text):
    found = sides(text)
    assert found is None or all(found)
