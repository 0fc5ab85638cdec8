"""One rule of where thinking ends, for every reader of a response's text."""

import pytest

from oel_core.text.thinking import PAIRS, answer_in


@pytest.mark.parametrize(("opens", "ends"), PAIRS)
def test_thinking_ends_at_its_first_end(opens: str, ends: str) -> None:
    assert answer_in(f" {opens}hm{ends}so {ends} it is") == f"so {ends} it is"
    assert answer_in(f"{opens}never ends") == ""
    assert answer_in(f"an answer that quotes {ends}") == f"an answer that quotes {ends}"


@pytest.mark.parametrize(("opens", "ends"), PAIRS)
def test_thinking_may_have_begun_in_the_prompt(opens: str, ends: str) -> None:
    assert answer_in(f"hm{ends}so", begun=True) == "so"
    assert answer_in("never ends", begun=True) == ""


def test_only_the_markers_of_a_tokenizer_count() -> None:
    assert answer_in("<think>a</think>b", pairs=PAIRS[1:]) == "<think>a</think>b"
