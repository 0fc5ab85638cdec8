"""Parsing of moves in the grid games."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oel_core.envs.grid import parse_grid_action

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "oel_vectors.json").read_text())["grid_action_parse"]
MEANS = {
    "w": "up",
    "a": "left",
    "s": "down",
    "d": "right",
    "up": "up",
    "left": "left",
    "down": "down",
    "right": "right",
}


@pytest.mark.parametrize("vector", VECTORS, ids=range(len(VECTORS)))
def test_agrees_with_the_reference(vector: dict[str, str]) -> None:
    expected = None if vector["action"] == "no valid action" else vector["action"]
    assert parse_grid_action(vector["response"]) == expected


@given(st.text(), st.sampled_from(sorted(MEANS)), st.text(alphabet=st.characters(exclude_characters="[]")))
def test_nothing_before_the_last_move_matters(before: str, token: str, after: str) -> None:
    assert parse_grid_action(f"{before}[{token}]{after}") == MEANS[token]


@given(st.text(alphabet=st.characters(exclude_characters="[")))
def test_no_bracket_no_move(text: str) -> None:
    assert parse_grid_action(text) is None


@given(st.lists(st.sampled_from(["[up]", "[DOWN]", "[ left ]", "right", "[d", "[]", "[[a]]", " "])))
def test_only_exact_tokens_count(parts: list[str]) -> None:
    text = "".join(parts)
    valid = [part for part in parts if part in ("[up]", "[[a]]")]
    expected = {"[up]": "up", "[[a]]": "left"}[valid[-1]] if valid else None
    assert parse_grid_action(text.replace("[d[", "[d [")) == expected
