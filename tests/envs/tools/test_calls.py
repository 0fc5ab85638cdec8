"""Calls: the right one passes in any notation, near misses fail, and no text raises."""

import json
import random
import re
import shlex
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oel_core.envs.tools.cli_surface import CommandLine
from oel_core.envs.tools.env import SURFACES
from oel_core.envs.tools.json_surface import FunctionCalls
from oel_core.envs.tools.kinds import KINDS, Kind
from oel_core.envs.tools.requests import Request, draw_request
from oel_core.envs.tools.surface import CallError, Surface
from oel_core.envs.tools.tool import Call, Tool, draw_tool
from oel_core.envs.tools.vocabulary import FORMER_CONFIRMATION
from oel_core.testing.environments import HOSTILE
from tests.envs.tools.draws import confirmed_by_call, requests, surfaces, tools

CLI, JSON = CommandLine(), FunctionCalls()


def understood(surface: Surface, tool: Tool, response: str) -> Call | None:
    """The call in a response, or None where there is none or the tool refuses it."""
    action = surface.find(tool, response)
    try:
        return None if action is None else surface.read(tool, action)
    except CallError:
        return None


def request_of(tool: Tool, kind: str, seed: int = 0) -> Request:
    return draw_request(tool, tool.command(kind).kind, "train", "by_share", random.Random(seed))


@settings(deadline=None)
@given(requests())
def test_the_right_call_is_understood_as_itself(drawn: tuple[Surface, Tool, Request]) -> None:
    surface, tool, request = drawn
    written = surface.write(tool, request.call)
    for response in (written, f"```\n{written}\n```", f"This is how:\n\n{written}\n", f"`{written}`"):
        assert understood(surface, tool, response) == request.call


@settings(deadline=None)
@given(requests(), st.data())
def test_another_value_is_another_call(drawn: tuple[Surface, Tool, Request], data: st.DataObject) -> None:
    surface, tool, request = drawn
    slot, value = data.draw(st.sampled_from(request.call.arguments))
    other = value + 1 if isinstance(value, int) else value + "x"
    changed = tuple((name, other if name == slot else kept) for name, kept in request.call.arguments)
    assert understood(surface, tool, surface.write(tool, replace(request.call, arguments=changed))) != request.call


@settings(deadline=None)
@given(requests(), st.data())
def test_a_call_that_lacks_or_adds_something_is_not_the_right_one(
    drawn: tuple[Surface, Tool, Request], data: st.DataObject
) -> None:
    surface, tool, request = drawn
    written = surface.write(tool, request.call)
    if surface is SURFACES["cli"]:
        words = shlex.split(written)
        lacking = list(words)
        del lacking[data.draw(st.integers(0, len(words) - 1))]
        near = [shlex.join(lacking), f"{written} more", f"{written} --verbose"]
    else:
        asked = json.loads(written)
        lacking = dict(asked["arguments"])
        del lacking[data.draw(st.sampled_from(sorted(lacking)))]
        near = [
            json.dumps({**asked, "arguments": lacking}),
            json.dumps({**asked, "arguments": {**asked["arguments"], "more": 1}}),
            json.dumps({**asked, "more": 1}),
        ]
    assert [understood(surface, tool, text) == request.call for text in near] == [False] * len(near)


@settings(deadline=None)
@given(tools, st.data())
def test_source_and_target_are_told_apart(tool: Tool, data: st.DataObject) -> None:
    surface, request = data.draw(surfaces), request_of(tool, "move", data.draw(st.integers(0, 99)))
    values = dict(request.call.arguments)
    swapped = {**values, "source": values["target"], "target": values["source"]}
    call = replace(request.call, arguments=tuple(sorted(swapped.items())))
    assert understood(surface, tool, surface.write(tool, call)) == call != request.call


@settings(deadline=None)
@given(tools, st.sampled_from(KINDS))
def test_the_names_that_one_would_guess_are_deprecated(tool: Tool, kind: object) -> None:
    command = tool.command(getattr(kind, "name", ""))
    options = [parameter for parameter in command.parameters if not parameter.positional]
    line = CLI.write(tool, request_of(tool, command.kind.name, 1).call)
    for parameter in options:
        with pytest.raises(CallError, match=f"option --{parameter.former} is deprecated"):
            CLI.read(tool, f"{line} --{parameter.former} x")
    if command.confirmation is not None:
        with pytest.raises(CallError, match="option --yes is deprecated"):
            CLI.read(tool, line.replace(f"--{command.confirmation}", f"--{FORMER_CONFIRMATION}"))
    asked = json.loads(JSON.write(tool, request_of(tool, command.kind.name).call))
    first = command.parameters[0]
    asked["arguments"][first.former] = asked["arguments"].pop(first.name, 1)
    with pytest.raises(CallError, match=f"parameter {first.former} is deprecated"):
        JSON.read(tool, json.dumps(asked))


@settings(deadline=None)
@given(tools, st.sampled_from(["close", "block"]))
def test_nothing_is_done_without_confirmation(tool: Tool, kind: str) -> None:
    command, call = tool.command(kind), request_of(tool, kind).call
    assert command.confirmation is not None
    with pytest.raises(CallError, match=f"{command.verb} was not confirmed"):
        CLI.read(tool, CLI.write(tool, call).removesuffix(f" --{command.confirmation}"))
    asked = json.loads(JSON.write(tool, call))
    asked["arguments"][command.confirmation] = False
    with pytest.raises(CallError, match=command.confirmation):
        JSON.read(tool, json.dumps(asked))


@settings(deadline=None)
@given(tools)
def test_a_default_may_be_given_or_left_out(tool: Tool) -> None:
    (parameter,) = [parameter for parameter in tool.command("list").parameters if parameter.slot == "count"]
    values = {"person": "7520", "count": parameter.default}
    call = tool.call("list", values)
    line = CLI.write(tool, call)
    assert f"--{parameter.name}" not in line
    assert CLI.read(tool, line) == CLI.read(tool, f"{line} --{parameter.name} {parameter.default}") == call
    assert JSON.read(tool, JSON.write(tool, call)) == call


@settings(deadline=None)
@given(tools)
def test_options_stand_in_any_order_and_form(tool: Tool) -> None:
    request = request_of(tool, "assign")
    program, noun, verb, *rest = shlex.split(CLI.write(tool, request.call))
    option, value = rest[-2:]
    assert option.startswith("--")
    first = shlex.join([program, noun, verb, option, value, *rest[:-2]])
    joined = shlex.join([program, noun, verb, f"{option}={value}", *rest[:-2]])
    assert CLI.read(tool, first) == CLI.read(tool, joined) == request.call
    with pytest.raises(CallError):
        CLI.read(tool, shlex.join([program, noun, verb, *rest[:-2], option[:-1], value]))


def test_numbers_as_strings_and_strings_as_numbers_are_refused() -> None:
    tool = draw_tool(1, len(KINDS))
    asked = json.loads(JSON.write(tool, request_of(tool, "refund").call))
    (amount,) = [name for name, value in asked["arguments"].items() if isinstance(value, int)]
    for wrong in (str(asked["arguments"][amount]), float(asked["arguments"][amount]), True, None, -1):
        with pytest.raises(CallError, match=amount):
            JSON.read(tool, json.dumps({**asked, "arguments": {**asked["arguments"], amount: wrong}}))


@settings(deadline=None)
@given(confirmed_by_call, surfaces, st.sampled_from(["close", "block"]))
def test_a_confirmation_is_a_call_with_the_same_arguments(tool: Tool, surface: Surface, kind: str) -> None:
    first, second = request_of(tool, kind).calls
    assert understood(surface, tool, surface.write(tool, first)) == first
    assert understood(surface, tool, surface.write(tool, second)) == second
    assert first != second
    assert first.arguments == second.arguments


def test_usage_tells_no_command_that_only_confirms() -> None:
    for number in range(1, 40):
        tool = draw_tool(number, len(KINDS), "second_call")
        for command in filter(None, (command.confirmed_by for command in tool.commands)):
            with pytest.raises(CallError) as caught:
                CLI.read(tool, f"{tool.program} {command.noun} nothing")
            assert command.verb not in re.findall("[a-z]+", caught.value.usage)
            for surface in (JSON, SURFACES["gateway"], SURFACES["functions"]):
                with pytest.raises(CallError) as caught:
                    surface.read(tool, '{"name": "nothing", "arguments": {}}')
                assert f"_{command.verb}" not in caught.value.usage


@settings(deadline=None)
@given(tools, st.sampled_from(KINDS))
def test_a_gateway_passes_on_what_the_function_would_be_given(tool: Tool, kind: Kind) -> None:
    call = request_of(tool, kind.name).call
    inner = json.loads(JSON.write(tool, call))
    outer = json.loads(SURFACES["gateway"].write(tool, call))
    assert outer == {"name": tool.program, "arguments": {"function": inner["name"], "arguments": inner["arguments"]}}
    gateway = SURFACES["gateway"]
    for wrong in (inner, {**outer, "name": inner["name"]}, {**outer, "arguments": inner["arguments"]}):
        with pytest.raises(CallError, match=r"no such function|no call of"):
            gateway.read(tool, json.dumps(wrong))


def test_the_page_shows_calls_that_its_tool_understands() -> None:
    page = (Path(__file__).parents[3] / "docs" / "tool-world.md").read_text(encoding="utf-8")
    flag, second = draw_tool(1, len(KINDS)), draw_tool(1, len(KINDS), "second_call")
    lines = re.findall(r"->  (store .*)", page)
    assert [
        line for line in lines if understood(CLI, flag, line) is None and understood(CLI, second, line) is None
    ] == []
    assert len(lines) == 5
    rows = re.findall(r"^\| `(json|gateway|cli)` \|.*\| `([^`]*)` \|$", page, re.MULTILINE)
    calls = {understood(SURFACES[name], flag, written) for name, written in rows}
    assert len(rows) == 3
    assert calls == {flag.call("refund", {"case": "F460", "amount": 7250})}


def test_llamas_name_for_arguments() -> None:
    tool = draw_tool(2, len(KINDS))
    call = request_of(tool, "note").call
    written = JSON.write(tool, call).replace('"arguments"', '"parameters"')
    assert understood(JSON, tool, f"<|python_tag|>{written}") == call


def test_a_tool_call_in_the_models_own_markup() -> None:
    tool = draw_tool(2, len(KINDS))
    request = request_of(tool, "note")
    written = JSON.write(tool, request.call)
    assert understood(JSON, tool, f"<tool_call>\n{written}\n</tool_call>") == request.call
    assert understood(JSON, tool, f'{{"name": "x"}} {written} {{}}') == request.call


def test_usage_tells_commands_and_options_but_no_confirmation_and_no_former_name() -> None:
    tool = draw_tool(1, len(KINDS))
    command = tool.command("close")
    with pytest.raises(CallError) as caught:
        CLI.read(tool, f"{tool.program} {command.noun} {command.verb}")
    assert caught.value.usage.startswith(f"usage: {tool.program} {command.noun} {command.verb}")
    assert f"--{command.confirmation}" not in caught.value.usage
    assert f"--{FORMER_CONFIRMATION}" not in caught.value.usage
    with pytest.raises(CallError, match="no such command: orders") as caught:
        CLI.read(tool, f"{tool.program} orders close A1")
    assert command.noun in caught.value.usage


def test_unbalanced_quotes_and_other_programs() -> None:
    tool = draw_tool(1, len(KINDS))
    with pytest.raises(CallError, match="cannot read the line"):
        CLI.read(tool, f"{tool.program} deals 'x")
    with pytest.raises(CallError, match="rm: no such program"):
        CLI.read(tool, "rm -rf /")


@settings(max_examples=500, deadline=None)
@given(surfaces, tools, st.data())
def test_no_text_raises(surface: Surface, tool: Tool, data: st.DataObject) -> None:
    own = [tool.program, *tool.hidden_words(), '{"name":', '"arguments": {', "}", "--", "=", "'", '"', "\\", "-1", "%s"]
    words = st.one_of(st.sampled_from(own), st.text(max_size=6), st.sampled_from([f"--{word}" for word in own]))
    text = " ".join(data.draw(st.lists(words, max_size=12)))
    for response in (text, f"{tool.program} {text}", f'{{"name": "{text}", "arguments": {{}}}}'):
        understood(surface, tool, response)
        with suppress(CallError):
            surface.read(tool, response)


@pytest.mark.parametrize("surface", SURFACES.values(), ids=SURFACES)
def test_hostile_texts(surface: Surface) -> None:
    tool = draw_tool(1, 10)
    for text in (*HOSTILE, '{"a":' * 2000, '{"name": "x", "arguments": {"a": "\\ud800"}}', "{" * 100_000):
        assert understood(surface, tool, text) is None
        with pytest.raises(CallError):
            surface.read(tool, text)
