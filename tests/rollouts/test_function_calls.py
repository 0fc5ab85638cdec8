"""Episodes whose actions are calls of declared functions: what prompts hold, and what chat templates make of them."""

import json
from typing import Any

import pytest

from oel_core.config.run import PlayConfig
from oel_core.envs import make_env
from oel_core.envs.base import EnvSpec
from oel_core.envs.tools.env import ToolEnv
from oel_core.policies.scripted import ScriptedPolicy
from oel_core.policies.text.rendering import render
from oel_core.prompts.play import KNOWLEDGE_HEADER, next_messages, with_knowledge
from oel_core.rollouts.playing import plan_episodes, play_episodes
from oel_core.types import Message, Split, ToolCall, Trajectory
from tests.policies.text.test_tools import TOOL_TEMPLATE, tokenizer
from tests.policies.tokenizers import KINDS

TURNS = 4


def played(surface: str, history_turns: int | None = None, knowledge: str = "") -> tuple[ToolEnv, Trajectory]:
    """An episode of two requests: an answer without a call, one with a wrong call, then the right ones."""
    options = {"surface": surface, "requests": 2, "attempts": 3, "feedback": "error"}
    spec = EnvSpec("tools", options, max_turns=TURNS)
    (plan,) = plan_episodes(spec, 0, Split.EXTRACT, 1, 0, 1, False)
    env = make_env(spec, plan.seed)
    assert isinstance(env, ToolEnv)
    first, second = (env.surface.write(env.tool, request.call) for request in env.requests)
    script = iter(["I do not know.", '{"name": "x", "arguments": {"y": 1}}', f"<tool_call>{first}</tool_call>", second])
    policy = ScriptedPolicy(lambda messages, seed: next(script), name="script", batch_size=1)
    play = PlayConfig(history_turns=history_turns)
    known = None if not knowledge else lambda plan, environment: knowledge
    (trajectory,) = play_episodes(policy, spec, [plan], play, knowledge=known, seed=0)
    assert trajectory.error is None
    assert trajectory.passed
    return env, trajectory


@pytest.mark.parametrize("surface", ["gateway", "functions"])
def test_prompts_declare_the_functions_and_hold_calls_with_their_results(surface: str) -> None:
    env, trajectory = played(surface)
    system, *talk = trajectory.turns[-1].messages
    assert system.tools == env.functions != ()
    assert all(turn.messages[0] == system for turn in trajectory.turns)
    assert [message.role for message in talk] == ["user", "assistant", "user", "assistant", "tool", "assistant", "tool"]
    assert talk[1] == Message(role="assistant", content="I do not know.")
    assert talk[3] == Message(
        role="assistant", content="", tool_calls=(ToolCall(id="call00001", name="x", arguments='{"y": 1}'),)
    )
    assert talk[4] == Message(role="tool", content=trajectory.turns[1].observation, tool_call_id="call00001")
    (right,) = talk[5].tool_calls
    assert {"name": right.name, "arguments": json.loads(right.arguments)} == json.loads(
        env.surface.write(env.tool, env.requests[0].call)
    )
    assert talk[6].content.startswith("Done.\nRequest: ")


@pytest.mark.parametrize("surface", ["cli", "json"])
def test_text_surfaces_have_prompts_of_text_alone(surface: str) -> None:
    _, trajectory = played_as_text(surface)
    messages = [message for turn in trajectory.turns for message in turn.messages]
    assert {message.role for message in messages} == {"system", "user", "assistant"}
    assert not any(message.tools or message.tool_calls for message in messages)


def played_as_text(surface: str) -> tuple[ToolEnv, Trajectory]:
    return played(surface) if surface == "json" else played_cli()


def played_cli() -> tuple[ToolEnv, Trajectory]:
    spec = EnvSpec("tools", {"requests": 2}, max_turns=2)
    (plan,) = plan_episodes(spec, 0, Split.EXTRACT, 1, 0, 1, False)
    env = make_env(spec, plan.seed)
    assert isinstance(env, ToolEnv)
    script = iter([env.surface.write(env.tool, request.call) for request in env.requests])
    policy = ScriptedPolicy(lambda messages, seed: next(script), name="script", batch_size=1)
    (trajectory,) = play_episodes(policy, spec, [plan], PlayConfig(), seed=0)
    return env, trajectory


def test_a_result_whose_call_is_not_kept_is_the_users() -> None:
    _, trajectory = played("functions", history_turns=0)
    assert [[message.role for message in turn.messages] for turn in trajectory.turns] == [["system", "user"]] * TURNS
    assert trajectory.turns[3].messages[1].content == trajectory.turns[2].observation
    _, trajectory = played("functions", history_turns=1)
    assert [message.role for message in trajectory.turns[3].messages] == ["system", "user", "assistant", "tool"]


def test_knowledge_stands_beside_the_functions() -> None:
    env, trajectory = played("functions", knowledge="Orders are sales.")
    student = trajectory.turns[2].messages
    teacher = with_knowledge(student, "Orders are sales.")
    assert teacher[0].tools == student[0].tools == env.functions
    assert KNOWLEDGE_HEADER in teacher[0].content
    assert KNOWLEDGE_HEADER not in student[0].content


def text_of(template: str | None, messages: Any) -> str:
    made = tokenizer(template) if template else KINDS["gemma"]()
    return "".join(part.text for part in render(made, messages, thinking=False))


@pytest.mark.parametrize("template", [TOOL_TEMPLATE, None], ids=["tools", "none"])
@pytest.mark.parametrize("history_turns", [None, 0, 1])
def test_every_prompt_can_be_written_by_templates_with_and_without_tools(
    template: str | None, history_turns: int | None
) -> None:
    env, trajectory = played("functions", history_turns)
    for turn in trajectory.turns:
        text = text_of(template, turn.messages)
        assert all(function.name in text for function in env.functions)
        assert turn.messages[-1].content in text


def test_a_template_writes_calls_of_earlier_turns_in_its_own_form() -> None:
    _, trajectory = played("functions")
    text = text_of(TOOL_TEMPLATE, trajectory.turns[-1].messages)
    assert '<tool_call>x{"y": 1}</tool_call>' in text


def test_without_a_call_messages_are_what_they_were() -> None:
    before = (Message(role="system", content="s"), Message(role="user", content="u"))
    after = next_messages(before, "a", "o", history_turns=None)
    assert after == (*before, Message(role="assistant", content="a"), Message(role="user", content="o"))
