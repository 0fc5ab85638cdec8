"""The Gymnasium adapter."""

import sys
from typing import Any

import pytest

from oel_core.config.run import PlayConfig
from oel_core.envs import EnvSpec, describe_env, make_env
from oel_core.errors import ConfigError
from oel_core.policies.scripted import ScriptedPolicy
from oel_core.rollouts.playing import plan_episodes, play_episodes
from oel_core.testing import check_environment
from oel_core.types import Split

pytest.importorskip("gymnasium")
DOORS = "tests.envs.doors_gym:Doors-v0"
SIDES = ["[left]", "[right]"]


def spec(**options: Any) -> EnvSpec:
    return EnvSpec("gymnasium", {"id": DOORS, "pass_return": 2.0, **options}, max_turns=4)


def test_the_contract() -> None:
    check_environment(lambda seed: make_env(spec(), seed), SIDES)


def test_episodes_are_played_and_the_return_is_the_share_of_a_pass() -> None:
    plans = plan_episodes(spec(), 0, Split.EXTRACT, 1, 0, 12, False)
    policy = ScriptedPolicy(lambda messages, seed: "I go [left]", batch_size=4)
    played = list(play_episodes(policy, spec(intro="Actions: [left] [right]"), plans, PlayConfig(), seed=0))
    assert {episode.error for episode in played} == {None}
    assert {(episode.passed, episode.reward, len(episode.turns)) for episode in played} == {(True, 1, 2), (False, 0, 4)}
    assert {episode.feedback for episode in played} == {
        "Success: a return of 2, 2 is a pass. It was left.",
        "Failure: round limit reached, a return of 0, 2 is a pass. It was right.",
    }
    assert played[0].turns[0].messages[0].content.endswith("\nActions: [left] [right]")


def test_arguments_reach_the_environment_and_its_own_limit_ends_the_episode() -> None:
    environment = make_env(spec(kwargs={"needed": 9}, pass_return=9.0), 1)
    steps = [environment.step("left") for _ in range(6)]
    assert [step.terminated for step in steps] == [False] * 5 + [True]
    assert environment.feedback(truncated=False).startswith("Failure: round limit reached")


def test_what_is_no_action_never_reaches_the_environment() -> None:
    environment = make_env(spec(), 1)
    assert environment.parse("[north] or [left], not [up]") == "left"
    assert environment.parse("left") is None
    step = environment.step("north")
    assert (step.observation, step.reward, step.terminated) == ("That is not an action.", 0.0, False)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"id": "tests.envs.doors_gym:Numbers-v0"}, "the action space of .* is Discrete, not Text"),
        ({"id": "Gone-v0"}, "Gone-v0 cannot be made"),
        ({"id": "no_such_package:Gone-v0"}, "cannot be made"),
        ({"kwargs": {"doors": 3}}, "cannot be made"),
        ({"pass_return": 0.0}, "pass_return"),
        ({"intro": "two\nlines"}, "intro"),
    ],
)
def test_what_cannot_be_played_is_refused_with_a_reason(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        make_env(spec(**options), 0)


def test_without_the_package_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(ConfigError, match=r"pip install 'oel\[gymnasium\]'"):
        make_env(spec(), 0)
    assert describe_env("gymnasium").options[0].name == "id"
