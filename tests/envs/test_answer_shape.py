"""What constrains an extractor's answers: the format's shape around the item's, and the world's own items match it."""

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oel_core.config.run import load_config, parse_config
from oel_core.envs import answer_shape
from oel_core.envs.base import EnvSpec
from oel_core.envs.tools.env import SURFACES, ToolEnv
from oel_core.errors import ConfigError, PolicyError
from oel_core.plugins.builtin import FORMATS
from oel_core.policies.hf import constraint
from oel_core.preflight.check import check
from oel_core.preflight.dry_run import dry_run
from oel_core.prompts.extraction import get_format
from oel_core.prompts.extraction.base import ANY_LINE
from oel_core.prompts.extraction.itemised import FORMAT, MARKER, shape


def shape_of(**extract: Any) -> str | None:
    world = {"name": extract.pop("world", "lake")}
    return answer_shape(parse_config({"environment": world, "extract": extract}, "a test"))


def test_answers_are_free_unless_asked_for() -> None:
    assert shape_of() is None
    assert shape_of(format="free_text") is None


@pytest.mark.parametrize(
    ("extract", "item"),
    [
        ({}, ANY_LINE),
        ({"world": "tools"}, ToolEnv.item_shape),
        ({"world": "tools", "task": "Write what you like."}, ANY_LINE),
        ({"world": "tools", "item_shape": "[a-z]+"}, "[a-z]+"),
    ],
    ids=["any line", "the world's", "another task", "the run's"],
)
def test_the_items_shape_is_the_runs_or_the_worlds_or_any_line(extract: dict[str, Any], item: str) -> None:
    assert shape_of(constrained="shape", **extract) == shape(item)


def test_a_format_without_a_shape_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"the format free_text have none: set it to off, or extract\.format to item"):
        shape_of(constrained="shape", format="free_text")


@pytest.mark.parametrize("value", ["(", "[z-a]", "  ", ""])
def test_what_is_no_regular_expression_is_named(value: str) -> None:
    with pytest.raises(ConfigError, match=r"extract\.item_shape"):
        shape_of(constrained="shape", item_shape=value)


def test_thinking_and_a_shape_do_not_go_together() -> None:
    with pytest.raises(ConfigError, match=r"model\.thinking is true: turn one of them off"):
        parse_config({"model": {"thinking": True}, "extract": {"constrained": "shape"}}, "a test")


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("confirmation", ["flag", "second_call"])
def test_true_items_of_the_tool_world_have_its_shape(surface: str, confirmation: str) -> None:
    for tool in range(1, 30):
        options = {"tool": tool, "surface": surface, "confirmation": confirmation}
        truths = ToolEnv(EnvSpec("tools", options), 0).truths()
        assert re.fullmatch(shape(ToolEnv.item_shape), truths)
        assert len(FORMAT.parse(truths)) >= 10


@given(st.lists(st.text(min_size=1, max_size=8).map(str.strip).filter(lambda text: len(text.splitlines()) == 1)))
def test_items_on_lines_of_their_own_have_the_shape_of_any_line(texts: list[str]) -> None:
    answer = "\n".join(f"{MARKER} {text}" for text in texts)
    assert re.fullmatch(shape(ANY_LINE), answer)
    assert len(FORMAT.parse(answer)) == len(texts)


@given(st.text(max_size=6), st.sampled_from("\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"))
def test_no_item_goes_over_the_end_of_a_line(text: str, end: str) -> None:
    assert not re.fullmatch(ANY_LINE, f"a{text}{end}b")


def test_prose_has_no_shape() -> None:
    for answer in ("Here is what I learnt:", f"{MARKER}", f"{MARKER} ", f"{MARKER} a\n\n{MARKER} b", f" {MARKER} a"):
        assert not re.fullmatch(shape(ANY_LINE), answer)


CONSTRAINED = ["extract.constrained=shape", "extract.item_shape=(?=a)b"]


def test_a_start_and_a_dry_run_name_a_shape_that_cannot_constrain(tmp_path: Any) -> None:
    config = load_config("quickstart", CONSTRAINED)
    with pytest.raises(ConfigError, match="look-around"):
        check(config)
    (missing,) = [one for one in dry_run(config, tmp_path).missing if one.startswith("extraction: ")]
    assert "extract.item_shape" in missing
    check(load_config("quickstart", CONSTRAINED[:1]))


def test_without_llguidance_a_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constraint, "find_spec", lambda name: None)
    with pytest.raises(PolicyError, match=r"pip install 'oel\[constrained\]', or set it to off"):
        check(load_config("quickstart", CONSTRAINED[:1]))
    check(load_config("quickstart"))


def test_a_format_of_another_package_needs_no_shape() -> None:
    assert replace(get_format("itemised"), shape=None).shape is None
    assert set(FORMATS.names()) >= {"itemised", "free_text"}
