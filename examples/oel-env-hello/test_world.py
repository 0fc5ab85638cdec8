"""The environment keeps oel's contract, and oel finds it by its name."""

from oel_env_hello.world import GREETINGS

from oel_core.envs import EnvSpec, make_env
from oel_core.testing import check_environment


def test_contract() -> None:
    check_environment(lambda seed: make_env(EnvSpec("hello"), seed), [f"[{word}]" for word in GREETINGS], seeds=(0, 1))


def test_greeting_rightly_opens_doors() -> None:
    environment = make_env(EnvSpec("hello", {"doors": 2}), 5)
    environment.start()
    steps = [environment.step(environment.parse(f"Perhaps [{word}]?")) for word in environment.layout.split("-")]
    assert [step.reward for step in steps] == [0.5, 0.5]
    assert [step.terminated for step in steps] == [False, True]
