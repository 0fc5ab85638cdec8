"""The verifiers adapter against verifiers' own rollouts."""

import asyncio
import signal
import sys
from typing import Any

import pytest

from oel_core.config.run import PlayConfig
from oel_core.envs import EnvSpec, describe_env, make_env
from oel_core.errors import ConfigError, EnvironmentError_
from oel_core.policies.scripted import ScriptedPolicy
from oel_core.rollouts.playing import plan_episodes, play_episodes
from oel_core.testing import check_environment
from oel_core.types import Split

SIDES = ["<door>left</door>", "I think <door>right</door>"]


def spec(kind: str = "doors", max_turns: int = 4, args: dict[str, Any] | None = None, **options: Any) -> EnvSpec:
    given = {"id": "doors_vf", "args": {"kind": kind, **(args or {})}, "pass_reward": 2.0, **options}
    return EnvSpec("verifiers", given, max_turns=max_turns)


def test_without_the_package_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "verifiers", None)
    with pytest.raises(ConfigError, match=r"pip install 'oel\[verifiers\]'"):
        make_env(spec(args={"never": "loaded"}), 0)
    assert describe_env("verifiers").options[0].name == "id"


@pytest.fixture
def vf(monkeypatch: pytest.MonkeyPatch) -> Any:
    """verifiers, which finds the environments of this folder."""
    verifiers = pytest.importorskip("verifiers")
    if not hasattr(verifiers, "MultiTurnEnv"):
        pytest.skip("this version of verifiers has no MultiTurnEnv")
    monkeypatch.syspath_prepend(__file__.rpartition("/")[0])
    return verifiers


def own_rollout(vf: Any, env: Any, row: dict[str, Any], texts: list[str]) -> Any:
    """The state after verifiers' own loop, whose model writes these texts."""
    from verifiers.clients import OpenAIChatCompletionsClient
    from verifiers.types import ResponseMessage

    class Scripted(OpenAIChatCompletionsClient):  # type: ignore[misc]
        async def get_response(self, *given: Any, **options: Any) -> Any:
            message = ResponseMessage(content=texts.pop(0), finish_reason="stop", is_truncated=False)
            return vf.Response(id="1", created=0, model="policy", message=message)

    async def roll_out() -> Any:
        state = await env.rollout(row, Scripted(None), "policy")
        await env.rubric.score_rollout(state)
        return state

    return asyncio.run(roll_out())


@pytest.mark.slow
def test_the_contract(vf: Any) -> None:
    check_environment(lambda seed: make_env(spec(), seed), SIDES)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        ("doors", [SIDES[0], SIDES[1], SIDES[1]]),
        ("doors", [SIDES[0]] * 6),
        ("doors", [SIDES[1]] * 2),
        ("single", ["6"]),
        ("single", ["5"]),
    ],
)
def test_an_episode_is_what_verifiers_itself_would_roll_out(vf: Any, kind: str, texts: list[str]) -> None:
    environment = make_env(spec(kind, max_turns=9, pass_reward=1.0), 16 + 5)
    shown, steps = [environment.start()], []
    for text in texts:
        steps.append(environment.step(environment.parse(text)))
        shown += [text, steps[-1].observation]
    assert [step.terminated for step in steps] == [False] * (len(texts) - 1) + [True]
    env = vf.load_environment("doors_vf", kind=kind)
    state = own_rollout(vf, env, env.get_dataset()[5], list(texts))
    messages = [message.content for message in [*state["prompt"], *state["completion"]] if message.role != "system"]
    assert [text for text in shown if text != "The episode is over."] == messages
    assert [step.reward for step in steps[:-1]] == [0.0] * (len(texts) - 1)
    assert steps[-1].reward == state["reward"]
    assert environment.instructions == (env.system_prompt or "")


@pytest.mark.slow
def test_episodes_are_played_and_the_reward_is_the_share_of_a_pass(vf: Any) -> None:
    plans = plan_episodes(spec(), 0, Split.EXTRACT, 1, 0, 12, False)
    policy = ScriptedPolicy(lambda messages, seed: SIDES[0], batch_size=4)
    played = list(play_episodes(policy, spec(intro="Two doors."), plans, PlayConfig(), seed=0))
    assert {episode.error for episode in played} == {None}
    assert {(episode.passed, episode.reward, len(episode.turns)) for episode in played} == {(True, 1, 2), (False, 0, 4)}
    assert {episode.feedback for episode in played} == {
        "Success: a reward of 2, 2 is a pass. Rubric: opened 2, answered 1, num_turns 2.",
        "Failure: round limit reached, a reward of 0, 2 is a pass. Rubric: opened 0, answered 1, num_turns 4.",
    }
    assert played[0].turns[0].messages[0].content.endswith("</door>.\nTwo doors.")


@pytest.mark.slow
def test_the_turn_limit_of_the_run_scores_what_was_reached(vf: Any) -> None:
    environment = make_env(spec(max_turns=2), 0)
    assert environment.step(SIDES[0]).reward == 0.0
    last = environment.step(None)
    assert (last.observation, last.reward, last.terminated) == (
        "That is not an answer in the form that was asked for.",
        0.5,
        False,
    )
    environment.close()


@pytest.mark.slow
def test_a_rollout_is_cleaned_up_once(vf: Any) -> None:
    environments = [make_env(spec(args={"needed": 1}), 0) for _ in "ab"]
    assert environments[0].step(SIDES[0]).terminated
    freed = []
    for environment in environments:
        environment.close()
        environment.close()
        freed.append(environment._env.freed)
    assert freed == [1, 2]


@pytest.mark.slow
def test_an_error_of_the_environment_fails_the_episode(vf: Any) -> None:
    environment = make_env(spec(), 0)
    with pytest.raises(EnvironmentError_, match="doors_vf: RuntimeError: the trap snapped"):
        environment.step("<door>trap</door>")
    environment.close()


@pytest.mark.slow
def test_it_is_played_where_an_event_loop_runs_and_signal_handlers_stay(vf: Any) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)

    async def play() -> str:
        return make_env(spec(args={"needed": 3}), 0).step(SIDES[0]).observation

    assert asyncio.run(play()) == "left: 1 open."
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"id": "nowhere_vf"}, "nowhere_vf cannot be loaded: .*installed"),
        ({"kind": "windows"}, "doors_vf cannot be loaded: .*windows"),
        ({"kind": "tools"}, "offers functions to call"),
        ({"kind": "group"}, "compares several rollouts"),
        ({"kind": "mixed"}, "different system prompts"),
        ({"pass_reward": 0.0}, "pass_reward"),
        ({"intro": "two\nlines"}, "intro"),
    ],
)
def test_what_cannot_be_played_is_refused_with_a_reason(vf: Any, given: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        make_env(spec(**given), 1)


@pytest.mark.slow
def test_an_environment_that_rewrites_its_messages_fails_the_episode(vf: Any) -> None:
    environment = make_env(spec("rewriting"), 1)
    with pytest.raises(EnvironmentError_, match="rewrites earlier messages"):
        environment.step(SIDES[0])
