"""Episodes of the tool world: feedback, and the order of requests."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from oel_core.envs import check_spec, make_env
from oel_core.envs.base import EnvSpec, FunctionCalling, Step
from oel_core.envs.shares import layout_share
from oel_core.envs.tools.env import SURFACES, ToolEnv
from oel_core.envs.tools.requests import draw_kinds
from oel_core.errors import ConfigError
from oel_core.rollouts.planning import plan_episodes
from oel_core.testing import check_environment
from oel_core.types import Split
from tests.envs.hash_seeds import seen_under_two_hash_seeds


def episode(seed: int = 1, **options: object) -> ToolEnv:
    env = make_env(EnvSpec("tools", options, max_turns=8), seed)
    assert isinstance(env, ToolEnv)
    return env


def right(env: ToolEnv, request: int = 0) -> str:
    return env.surface.write(env.tool, env.requests[request].call)


def wrong(env: ToolEnv) -> str:
    """A well-formed call that nobody asked for."""
    kind = next(c.kind.name for c in env.tool.commands if c.kind.name not in {r.kind for r in env.requests})
    other = next(e for e in (episode(seed, tool=env.options.tool) for seed in range(500)) if e.requests[0].kind == kind)
    return env.surface.write(env.tool, other.requests[0].call)


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("feedback", ["thumbs", "error", "usage", "correction"])
@pytest.mark.parametrize("confirmation", ["flag", "second_call"])
def test_the_contract(surface: str, feedback: str, confirmation: str) -> None:
    options = {
        "surface": surface,
        "feedback": feedback,
        "confirmation": confirmation,
        "attempts": 3,
        "requests": 2,
    }
    env = episode(**options)
    check_environment(lambda seed: episode(seed, **options), [right(env), wrong(env)])


@pytest.mark.parametrize("surface", SURFACES)
def test_the_right_call_passes_in_one_turn(surface: str) -> None:
    env = episode(surface=surface)
    action = env.parse(f"Sure:\n```\n{right(env)}\n```")
    step = env.step(action)
    assert (step.reward, step.terminated) == (1.0, True)
    assert env.feedback(truncated=False).startswith("Success: ")


FEEDBACK = {
    "none": "The episode is over.",
    "thumbs": "Failure: that was wrong.",
    "error": "Failure: that was done, but it is not what was asked for.",
    "usage": "Failure: that was done, but it is not what was asked for.",
    "correction": "Failure: that was done, but it is not what was asked for. The right call was: {right}",
}


@pytest.mark.parametrize("mode", FEEDBACK)
def test_feedback_tells_as_much_as_the_option_says(mode: str) -> None:
    env = episode(feedback=mode)
    step = env.step(wrong(env))
    assert (step.reward, step.terminated) == (0.0, True)
    assert env.feedback(truncated=False) == FEEDBACK[mode].format(right=right(env))
    if mode != "correction":
        assert right(env) not in env.feedback(truncated=False) + step.observation


def to_confirm(**options: object) -> ToolEnv:
    """An episode whose request needs two calls."""
    drawn = (episode(seed, confirmation="second_call", **options) for seed in range(200))
    return next(env for env in drawn if len(env.requests[0].calls) == 2)


def calls(env: ToolEnv, request: int = 0) -> list[str]:
    return [env.surface.write(env.tool, call) for call in env.requests[request].calls]


@pytest.mark.parametrize("surface", SURFACES)
def test_a_request_is_served_when_its_call_is_confirmed(surface: str) -> None:
    env = to_confirm(surface=surface)
    first, second = calls(env)
    step = env.step(first)
    assert step == Step(f"Waiting for a confirmation.\nRequest: {env.requests[0].text}", 0.0, False)
    assert env.step(second) == Step("Done.", 1.0, True)
    assert env.feedback(truncated=False).startswith("Success")


def test_what_is_not_the_confirmation_is_a_wrong_call_and_leaves_it_pending() -> None:
    env = to_confirm(attempts=4, feedback="error")
    first, second = calls(env)
    assert "nothing like that to confirm" in env.step(second).observation
    env.step(first)
    assert "it waits for a confirmation" in env.step(first).observation
    assert "not what was asked for" in env.step(wrong(env)).observation
    assert env.step(second).reward == 1.0


def test_another_call_that_waits_for_its_confirmation_is_not_said_to_be_done() -> None:
    env = to_confirm(attempts=2, feedback="error")
    others = (episode(seed, confirmation="second_call").requests[0] for seed in range(500))
    other = next(one for one in others if len(one.calls) == 2 and one.call != env.requests[0].call)
    said = env.step(env.surface.write(env.tool, other.call)).observation
    assert "that waits for a confirmation, but it is not what was asked for" in said


def test_corrections_and_truths_have_both_calls() -> None:
    env = to_confirm()
    both = ", then ".join(calls(env))
    env.step(wrong(env))
    assert env.feedback(truncated=False).endswith(f"The right calls were: {both}")
    confirmed = [line for line in env.truths().splitlines() if ", then " in line]
    assert len(confirmed) == sum(command.confirmed_by is not None for command in env.tool.commands)


def test_a_confirmation_belongs_to_its_request() -> None:
    """The one that was pending does not count for the next request."""
    envs = (episode(seed, confirmation="second_call", requests=3, attempts=1) for seed in range(300))
    env = next(env for env in envs if [len(one.calls) for one in env.requests][:2] == [2, 2])
    for request in range(3):
        for call in calls(env, request):
            step = env.step(call)
    assert step.terminated
    assert env.feedback(truncated=False).startswith("Success")


@pytest.mark.parametrize(
    ("options", "turns"), [({"requests": 3}, 2), ({"confirmation": "second_call", "kinds": 12}, 1)], ids=str
)
def test_too_few_turns_for_what_is_asked_are_refused_before_play(options: dict[str, object], turns: int) -> None:
    spec = EnvSpec("tools", options, max_turns=turns)
    for use in (lambda: check_spec(spec), lambda: make_env(spec, 1)):
        with pytest.raises(ConfigError, match=rf"max_turns is {turns}: raise environment\.max_turns"):
            use()
    check_spec(replace(spec, max_turns=turns + 1))


@pytest.mark.parametrize("surface", SURFACES)
def test_an_action_is_a_call_of_a_declared_function(surface: str) -> None:
    env = episode(surface=surface)
    assert isinstance(env, FunctionCalling)
    assert (env.functions == ()) == (surface in ("cli", "json"))
    if env.functions:
        action = env.parse(f"<tool_call>\n{right(env)}\n</tool_call>")
        assert action is not None
        call = env.as_call(action)
        assert call.name in {function.name for function in env.functions}
        assert json.loads(call.arguments) == json.loads(right(env))["arguments"]


def test_usage_leads_to_the_command_step_by_step() -> None:
    env = episode(feedback="usage", attempts=4)
    program, noun, verb, *_ = right(env).split()
    first = env.step(f"{program} nothing").observation
    assert noun in first
    assert verb not in first
    assert verb in env.step(f"{program} {noun} nothing").observation
    assert env.requests[0].text in env.step(f"{program} {noun} {verb}").observation
    assert env.step(right(env)).reward == 1.0


def test_every_request_that_is_served_is_worth_the_same() -> None:
    env = episode(requests=2, attempts=2)
    steps = [env.step(action) for action in (right(env, 0), wrong(env), right(env, 1))]
    assert [step.reward for step in steps] == [0.5, 0.0, 0.5]
    assert [step.terminated for step in steps] == [False, False, True]


def test_an_answer_without_a_call_is_no_attempt() -> None:
    env = episode(attempts=1, feedback="error")
    for _ in range(3):
        step = env.step(env.parse("I do not know."))
        assert not step.terminated
        assert "no call was found" in step.observation
    assert env.feedback(truncated=True) == "Failure: round limit reached."
    assert episode().feedback(truncated=True).endswith(f"The right call was: {right(episode())}")


def test_the_next_request_comes_only_after_the_one_before_was_served() -> None:
    env = episode(requests=3, attempts=2)
    assert env.requests[1].text not in env.step(wrong(env)).observation
    seen = env.step(right(env, 0))
    assert env.requests[1].text in seen.observation
    assert not seen.terminated
    assert env.requests[2].text in env.step(right(env, 1)).observation
    assert env.step(right(env, 2)).terminated
    assert env.feedback(truncated=False).startswith("Success")
    rare = {command.kind.name for command in env.tool.commands[-env.tool.rare :]}
    assert {episode(seed, requests=3).requests[-1].kind for seed in range(30)} == rare
    assert not {episode(seed, requests=3).requests[0].kind for seed in range(60)} & rare


def test_rare_kinds_are_asked_for_at_a_quarter_of_the_others_rate() -> None:
    import random

    tool, rng = episode().tool, random.Random(0)
    counts = Counter(draw_kinds(tool, 1, rng)[0].name for _ in range(8000))
    rare = [command.kind.name for command in tool.commands[-tool.rare :]]
    share = sum(counts[name] for name in rare) / 8000
    expected = 2 * 0.25 / 8.5
    assert abs(share - expected) < 5 * (expected * (1 - expected) / 8000) ** 0.5
    assert len(counts) == 10


def test_splits_by_layout_have_values_and_wordings_of_their_own() -> None:
    spec = EnvSpec("tools", {"tool": 2}, max_turns=1)
    texts = {}
    for split in (Split.EXTRACT, Split.VALIDATION, Split.HELD_OUT):
        plans = plan_episodes(spec, 0, split, 1, 0, 150, split_by_layout=True)
        envs = [make_env(spec, plan.seed) for plan in plans]
        assert {layout_share(env.layout) for env in envs} == {split.value if split is not Split.EXTRACT else "train"}
        texts[split] = {env.start() for env in envs}
    first, *others = texts.values()
    assert all(not first & other for other in others)
    assert not texts[Split.VALIDATION] & texts[Split.HELD_OUT]


def test_truths_are_examples_of_every_kind_and_none_is_held_out() -> None:
    env = episode(tool=3)
    calls = []
    for line in env.truths().splitlines():
        asked, _, call = line.partition('" is done with: ')
        calls.append(env.surface.read(env.tool, call))
        assert asked.startswith('- EXPERIENCE ITEM: "')
    expected = {command.kind.name: 1 for command in env.tool.commands} | {"level": 3}
    assert Counter(call.kind for call in calls) == expected
    assert len({dict(call.arguments)["level"] for call in calls if call.kind == "level"}) == 3
    assert episode(9, tool=3).truths() == env.truths()
    held_out = {e.start() for e in map(episode, range(300)) if layout_share(e.layout) == "held_out"}
    assert not any(f'"{text.removeprefix("Request: ")}"' in episode().truths() for text in held_out)


def test_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    program = (
        "import json\n"
        "from oel_core.envs import make_env\n"
        "from oel_core.envs.base import EnvSpec\n"
        "envs = [make_env(EnvSpec('tools', {'tool': t, 'surface': s, 'requests': 2}), seed)\n"
        "        for t in (1, 2, 3, 4) for s in ('cli', 'json') for seed in (0, 7)]\n"
        "print(json.dumps([[e.intro, e.layout, e.start(), e.truths(), e.feedback(truncated=True)] for e in envs]))\n"
    )
    first, second = seen_under_two_hash_seeds(program, tmp_path)
    assert first == second


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"tool": 0}, "tool"),
        ({"surface": "xml"}, "surface"),
        ({"kinds": 13}, "kinds"),
        ({"kinds": 4, "requests": 4}, "only 2 kinds are common"),
        ({"feedback": "loud"}, "feedback"),
        ({"wording": "all"}, "wordings"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        episode(**options)
