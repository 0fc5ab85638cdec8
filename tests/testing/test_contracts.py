"""The shipped contract checks accept valid components and name violations."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from oel_core.config.run import ModelConfig
from oel_core.envs import EnvSpec, make_env
from oel_core.envs.base import Step
from oel_core.evaluation import Suite, make_suite
from oel_core.plugins.builtin import FORMATS
from oel_core.policies import load_policy
from oel_core.prompts.extraction.itemised import FORMAT, MARKER
from oel_core.testing import check_environment, check_format, check_policy, check_suite
from oel_core.types import EvalReport, Trajectory
from tests.evaluation.players import small_config, wanderer
from tests.fakes import CorridorEnv

MOVES = [f"I go [{move}]." for move in ("up", "down", "left", "right")]
OUTPUTS = {"itemised": [f"{MARKER} one\n{MARKER} two words"], "free_text": ["some lines\nof text"]}


def corridor(seed: int) -> CorridorEnv:
    return CorridorEnv(EnvSpec("corridor", {}), seed)


@pytest.mark.parametrize("name", ["lake", "frozen_lake", "sokoban"])
def test_the_shipped_grids_keep_the_contract(name: str) -> None:
    check_environment(lambda seed: make_env(EnvSpec(name), seed), MOVES)


def test_a_minimal_environment_keeps_it() -> None:
    check_environment(corridor, ["[left]", "[right]"], seeds=(0, 4))


class Forgetful(CorridorEnv):
    intro = "Two\nlines"


class Speechless(CorridorEnv):
    extraction_task = ""


class Wordy(CorridorEnv):
    instructions = "Go. "


class Fickle(CorridorEnv):
    def __init__(self, spec: EnvSpec, seed: int) -> None:
        super().__init__(spec, seed)
        self.instructions = f"You are number {seed}."


class Cumulative(CorridorEnv):
    def step(self, action: str | None) -> Step:
        return Step("on", 0.4, False)


class Generous(CorridorEnv):
    def step(self, action: str | None) -> Step:
        step = super().step(action)
        return replace(step, reward=1.0 if step.terminated else 0.0)


class Moving(CorridorEnv):
    def step(self, action: str | None) -> Step:
        self.layout += "x"
        return super().step(action)


class Eager(CorridorEnv):
    def parse(self, response: str) -> str | None:
        return super().parse(response) or "left"


class Strict(CorridorEnv):
    def step(self, action: str | None) -> Step:
        return replace(super().step(action), terminated=action is None)


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        (Forgetful, "more than one line"),
        (Cumulative, "rewards add to"),
        (Generous, "a step after the end has the reward 1.0"),
        (Speechless, "extraction_task is empty"),
        (Wordy, "instructions begins or ends with white space"),
        (Fickle, "different instructions"),
        (Moving, "layout changed"),
        (Eager, "for an action"),
        (Strict, "one invalid action ended"),
    ],
)
def test_a_broken_environment_is_told_what_is_wrong(broken: type[CorridorEnv], problem: str) -> None:
    def factory(seed: int) -> CorridorEnv:
        return broken(EnvSpec("corridor", {}), seed)

    with pytest.raises(AssertionError, match=problem):
        check_environment(factory, ["[left]", "[right]"], seeds=(0, 4))


@pytest.mark.parametrize("name", FORMATS.builtin)
def test_the_shipped_formats_keep_the_contract(name: str) -> None:
    check_format(FORMATS.load(name), OUTPUTS[name])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"name": "two words"}, "not an identifier"),
        ({"instructions": " "}, "instructions are empty"),
        ({"parse": lambda output: []}, "nothing was found"),
        ({"parse": lambda output: [output + "!"]}, "do not parse to themselves"),
        ({"truncate": lambda text, cap, count: text}, "under a cap"),
    ],
)
def test_a_broken_format_is_told_what_is_wrong(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(AssertionError, match=problem):
        check_format(replace(FORMAT, **change), OUTPUTS["itemised"])


def test_the_transformers_policy_keeps_the_contract() -> None:
    check_policy(load_policy("seed-lm", ModelConfig(max_length=256)))


class Altered:
    """A policy with one thing changed."""

    def __init__(self, policy: Any, change: Callable[[Any], Any]) -> None:
        self._policy, self._change = policy, change

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)

    def generate(self, requests: Any, sampling: Any) -> Any:
        return self._change(self._policy.generate(requests, sampling))


def test_a_broken_policy_is_told_what_is_wrong() -> None:
    policy = load_policy("seed-lm", ModelConfig(max_length=256))
    with pytest.raises(AssertionError, match="3 requests got 2"):
        check_policy(Altered(policy, lambda answers: answers[:2]))
    with pytest.raises(AssertionError, match="prompt_ids is empty"):
        check_policy(Altered(policy, lambda answers: [replace(answer, prompt_ids=()) for answer in answers]))


class AlteredSuite:
    """A suite of four episodes with one thing changed."""

    def __init__(self) -> None:
        self.suite: Suite = make_suite("games", {"episodes": 4}, small_config())
        self.name, self.total = self.suite.name, self.suite.total

    def run(self, policy: Any, *, done: Any = (), on_episode: Any = lambda episode: None) -> EvalReport:
        return self.suite.run(policy, done=done, on_episode=on_episode)


class Misnamed(AlteredSuite):
    def __init__(self) -> None:
        super().__init__()
        self.name = "my games"


class Silent(AlteredSuite):
    def run(self, policy: Any, *, done: Any = (), on_episode: Any = None) -> EvalReport:
        return super().run(policy, done=done)


class Flattering(AlteredSuite):
    def run(self, policy: Any, *, done: Any = (), on_episode: Any = lambda episode: None) -> EvalReport:
        return super().run(policy, done=done, on_episode=on_episode).model_copy(update={"passed": 4})


class Restarting(AlteredSuite):
    def run(self, policy: Any, *, done: Any = (), on_episode: Any = lambda episode: None) -> EvalReport:
        return super().run(policy, on_episode=on_episode)


class Credulous(AlteredSuite):
    def run(self, policy: Any, *, done: Any = (), on_episode: Any = lambda episode: None) -> EvalReport:
        own: list[Trajectory] = []
        super().run(policy, on_episode=own.append)
        known = {episode.seed for episode in own}
        return super().run(policy, done=[one for one in done if one.seed in known], on_episode=on_episode)


def test_a_shipped_suite_keeps_the_contract() -> None:
    check_suite(AlteredSuite(), wanderer())


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        (Misnamed, "'my games' is not of letters"),
        (Silent, "called for 0 episodes, total is 4"),
        (Flattering, "counts 4 passed episodes"),
        (Restarting, "does not play the missing episodes"),
        (Credulous, "raised no ArtifactError"),
    ],
)
def test_a_broken_suite_is_told_what_is_wrong(broken: type[AlteredSuite], problem: str) -> None:
    with pytest.raises(AssertionError, match=problem):
        check_suite(broken(), wanderer())
