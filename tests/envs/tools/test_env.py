"""An episode of the tool world: what is told when, and what comes only after something else was done right."""

from collections import Counter
from pathlib import Path

import pytest

from oel_core.envs import make_env
from oel_core.envs.base import EnvSpec
from oel_core.envs.shares import layout_share
from oel_core.envs.tools.env import ToolEnv
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


@pytest.mark.parametrize("surface", ["cli", "json"])
@pytest.mark.parametrize("feedback", ["thumbs", "error", "usage", "correction"])
def test_the_contract(surface: str, feedback: str) -> None:
    options = {"surface": surface, "feedback": feedback, "attempts": 3, "requests": 2}
    env = episode(**options)
    check_environment(lambda seed: episode(seed, **options), [right(env), wrong(env)])


@pytest.mark.parametrize("surface", ["cli", "json"])
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
