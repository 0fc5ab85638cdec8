"""Generated tools: stable, different, and hidden from players."""

import itertools
import json
import random
import re
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oel_core.envs.base import EnvSpec
from oel_core.envs.tools.conventions import CONVENTIONS
from oel_core.envs.tools.env import PENDING, ToolEnv
from oel_core.envs.tools.kinds import KINDS, SLOT_TYPES
from oel_core.envs.tools.requests import _FRAMES, draw_request
from oel_core.envs.tools.tool import draw_tool
from oel_core.envs.tools.values import draw_value
from oel_core.envs.tools.vocabulary import (
    CONFIRMATIONS,
    FORMER_CONFIRMATION,
    FORMER_OPTIONS,
    OPTIONS,
    THEMES,
    VERBS,
)
from oel_core.errors import ConfigError
from tests.envs.tools.draws import SHARES


def words_of(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+(?:-[a-z]+)*", text.lower()))


@cache
def everything_asked() -> set[str]:
    """Words of every wording, frame and value."""
    found: set[str] = set()
    for kind in KINDS:
        for wording in kind.wordings:
            found |= words_of(re.sub(r"\{\w+\}", "", wording))
    for frames in _FRAMES.values():
        found |= words_of(" ".join(frames).replace("{lower}", "").replace("{upper}", ""))
    for share in SHARES:
        rng = random.Random(0)
        for slot in SLOT_TYPES:
            drawn = (draw_value(SLOT_TYPES[slot], share, rng) for _ in range(60))
            found |= words_of(" ".join(f"{value:%B}" if slot == "date" else str(value) for value in drawn))
    return found


def test_no_word_that_a_tool_may_use_occurs_in_any_request() -> None:
    for theme in THEMES:
        spoken = {f"{noun}{plural}" for noun in theme.spoken.values() for plural in ("", "s")}
        pools = [*VERBS.values(), *OPTIONS.values(), *theme.nouns.values(), CONFIRMATIONS]
        assert {word for pool in pools for word in pool} & (everything_asked() | spoken | set(theme.programs)) == set()


def shown_before_feedback(env: ToolEnv) -> str:
    """Everything that a player or an extractor reads before an episode has feedback."""
    shown = [env.instructions, env.intro, env.start(), env.step(None).observation, PENDING, env.extraction_task]
    shown += [part for one in env.extraction_examples for part in (one.episode.replace("## End", ""), one.answer)]
    shown += [f"{function.name} {function.description} {function.parameters}" for function in env.functions]
    return " ".join(shown)


confirmations = st.sampled_from(["flag", "second_call"])


@settings(deadline=None)
@given(st.integers(1, 10_000), st.sampled_from(["cli", "json", "gateway"]), confirmations, st.integers(0, 2**32 - 1))
def test_no_hidden_word_is_shown_before_feedback(number: int, surface: str, confirmation: str, seed: int) -> None:
    options = {"tool": number, "surface": surface, "attempts": 2, "requests": 2, "confirmation": confirmation}
    env = ToolEnv(EnvSpec("tools", options), seed)
    assert set(env.tool.hidden_words()) & words_of(shown_before_feedback(env).replace("_", " ")) == set()


@settings(deadline=None)
@given(st.integers(1, 10_000), confirmations, st.integers(0, 2**32 - 1))
def test_declared_functions_show_names_and_no_convention(number: int, confirmation: str, seed: int) -> None:
    options = {"tool": number, "surface": "functions", "requests": 2, "confirmation": confirmation, "kinds": len(KINDS)}
    env = ToolEnv(EnvSpec("tools", options), seed)
    assert {*CONFIRMATIONS, FORMER_CONFIRMATION} & words_of(shown_before_feedback(env).replace("_", " ")) == set()
    assert [function.name for function in env.functions] == [f"{c.noun}_{c.verb}" for c in env.tool.commands]
    for function, command in zip(env.functions, env.tool.commands, strict=True):
        assert function.description == ""
        schema = json.loads(function.parameters)
        assert schema.keys() == {"type", "properties", "required"}
        assert set(schema["properties"]) == {parameter.name for parameter in command.parameters}
        assert all(
            schema["properties"][parameter.name] == {"type": "integer" if parameter.convention.integer else "string"}
            for parameter in command.parameters
        )
        defaults = {parameter.name for parameter in command.parameters if parameter.default is not None}
        assert set(schema["required"]) == set(schema["properties"]) - defaults


def test_a_tool_is_the_same_every_time_and_unlike_its_neighbours() -> None:
    drawn = [draw_tool(number, 10) for number in range(1, 41)]
    draw_tool.cache_clear()
    assert [draw_tool(number, 10) for number in range(1, 41)] == drawn
    assert all(a.theme != b.theme for a, b in itertools.pairwise(drawn))
    calls = [
        {
            (command.kind.name, command.noun, command.verb, tuple(p.name for p in command.parameters))
            for command in tool.commands
        }
        for tool in drawn
    ]
    assert all(len(first & second) <= 1 for i, first in enumerate(calls) for second in calls[:i])


def test_every_convention_and_style_is_drawn_by_some_tool() -> None:
    commands = [command for number in range(1, 200) for command in draw_tool(number, len(KINDS)).commands]
    seen = {parameter.convention for command in commands for parameter in command.parameters}
    assert seen == {convention for own in CONVENTIONS.values() for convention in own}
    assert {command.confirmation for command in commands} == {None, *CONFIRMATIONS}
    moves = {tuple(parameter.slot for parameter in c.parameters) for c in commands if c.kind.name == "move"}
    assert moves == {("thing", "source", "target"), ("target", "source", "thing")}
    assert {parameter.positional for c in commands if c.kind.name == "close" for parameter in c.parameters} == {
        True,
        False,
    }


@settings(deadline=None)
@given(st.integers(1, 10_000))
def test_however_it_wants_commands_confirmed_a_tool_is_the_same(number: int) -> None:
    flag, call = draw_tool(number, len(KINDS)), draw_tool(number, len(KINDS), "second_call")
    for one, other in zip(flag.commands, call.commands, strict=True):
        assert (one.kind, one.noun, one.verb, one.parameters) == (other.kind, other.noun, other.verb, other.parameters)
        assert other.confirmation is None
        assert (one.confirmation is None) == (other.confirmed_by is None)
        if other.confirmed_by is not None:
            assert (other.confirmed_by.noun, other.confirmed_by.verb) == (one.noun, one.confirmation)
    names = [(command.noun, command.verb) for command in call.every_command]
    assert len(set(names)) == len(names) == len(call.commands) + 2


@settings(deadline=None)
@given(st.integers(1, 10_000), st.integers(0, len(KINDS)))
def test_a_new_version_of_a_tool_differs_in_the_verbs_of_its_first_kinds(number: int, renamed: int) -> None:
    before, after = (draw_tool(number, len(KINDS), "flag", count) for count in (0, renamed))
    verbs = [(one.verb, other.verb) for one, other in zip(before.commands, after.commands, strict=True)]
    assert [one != other for one, other in verbs] == [place < renamed for place in range(len(KINDS))]
    assert all(replace(b, verb=a.verb) == a for a, b in zip(before.commands, after.commands, strict=True))


def test_an_episode_of_a_new_version_has_the_same_request_and_another_right_call() -> None:
    old, new = (
        ToolEnv(EnvSpec("tools", {"kinds": 4, "feedback": "correction", "renamed": renamed}), 7) for renamed in (0, 4)
    )
    assert old.start() == new.start()
    for environment in (old, new):
        environment.step("nothing")
    assert old.feedback(truncated=False) != new.feedback(truncated=False)
    assert len(old.truths().splitlines()) == len(new.truths().splitlines())
    assert not set(old.truths().splitlines()) & set(new.truths().splitlines())


def test_more_renamed_kinds_than_the_tool_has_are_refused() -> None:
    with pytest.raises(ConfigError, match="renamed is 5, but the tool has 4 kinds: lower renamed"):
        ToolEnv.check(EnvSpec("tools", {"kinds": 4, "renamed": 5}))


def test_words_of_a_command_are_unambiguous() -> None:
    verbs = [verb for own in VERBS.values() for verb in own]
    assert len(set(verbs)) == len(verbs)
    for kind in KINDS:
        names = [set(OPTIONS[slot]) for slot in kind.slots]
        assert sum(map(len, names)) == len(set().union(*names))
    assert set(FORMER_OPTIONS) == set(OPTIONS) == set(SLOT_TYPES)
    assert not set(FORMER_OPTIONS.values()) & {name for own in OPTIONS.values() for name in own}
    assert {theme.spoken["case"] for theme in THEMES} == {"order", "rental", "visit", "loan"}


def test_values_and_wordings_of_the_shares_are_disjoint() -> None:
    tool = draw_tool(1, len(KINDS))
    rng = random.Random(0)
    for kind in KINDS:
        texts = [{draw_request(tool, kind, share, "by_share", rng).text for _ in range(200)} for share in SHARES]
        assert not (texts[0] & texts[1])
        assert not (texts[0] & texts[2])
        assert not (texts[1] & texts[2])
    for type_ in set(SLOT_TYPES.values()) - {"level"}:
        values = [{draw_value(type_, share, rng) for _ in range(300)} for share in SHARES]
        assert not (values[0] & values[1])
        assert not (values[0] & values[2])
        assert not (values[1] & values[2])


def test_any_wording_where_asked() -> None:
    tool, rng = draw_tool(1, len(KINDS)), random.Random(0)
    (close,) = [kind for kind in KINDS if kind.name == "close"]
    texts = [draw_request(tool, close, "train", "all", rng).text.lower() for _ in range(400)]
    assert all(any(part.split("{case}")[0] in text for text in texts) for part in close.wordings)
