"""The lake suites distinguish a model that follows its prompt from one that memorised letters."""

from typing import Any

import pytest

from oel_core.config.run import OelConfig
from oel_core.envs import EnvSpec, make_env
from oel_core.envs.lake import DEPLOYMENT_SYMBOLS, ROLES
from oel_core.errors import ConfigError
from oel_core.evaluation import make_suite
from oel_core.evaluation.base import EpisodeSuite
from oel_core.evaluation.lake import swap_roles
from oel_core.types import Trajectory
from tests.evaluation.players import LAKE, follower, parrot, small_config


@pytest.mark.parametrize("name", ["other_symbols", "swapped_roles"])
def test_a_follower_passes_and_a_parrot_does_not(name: str) -> None:
    suite = make_suite(name, {"episodes": 24}, small_config())
    assert suite.run(follower()).pass_rate == 1.0
    assert suite.run(parrot()).pass_rate < 0.3


def letters_in(played: list[Trajectory]) -> set[str]:
    boards = "".join(line for entry in played for line in entry.turns[0].messages[1].content.split("\n") if "|" in line)
    return {letter for letter in boards if letter.isalpha()} - {"P"}


def test_other_symbols_are_drawn_anew_every_episode() -> None:
    played: list[Trajectory] = []
    make_suite("other_symbols", {"episodes": 24}, small_config()).run(follower(), on_episode=played.append)
    assert len(letters_in(played)) > 10
    assert len({entry.knowledge_digest for entry in played}) > 12


def test_swapped_roles_are_the_deployments_letters_in_other_roles() -> None:
    swapped = swap_roles(DEPLOYMENT_SYMBOLS)
    assert sorted(swapped.values()) == sorted(DEPLOYMENT_SYMBOLS.values())
    assert all(swapped[role] != DEPLOYMENT_SYMBOLS[role] for role in ROLES)
    assert (swapped["hole"], swapped["goal"]) == (DEPLOYMENT_SYMBOLS["goal"], DEPLOYMENT_SYMBOLS["hole"])
    played: list[Trajectory] = []
    make_suite("swapped_roles", {"episodes": 4}, small_config()).run(follower(), on_episode=played.append)
    assert letters_in(played) == {"H", "G"}


def test_a_run_with_its_own_letters_has_those_swapped() -> None:
    own = {"hole": "A", "trap": "B", "key": "C", "goal": "D"}
    config = OelConfig.model_validate({"environment": {"name": "lake", "options": {**LAKE, "symbols": own}}})
    suite = make_suite("swapped_roles", {"episodes": 1}, config)
    assert isinstance(suite, EpisodeSuite)
    assert suite.episodes.spec.options["symbols"] == {"hole": "D", "trap": "C", "key": "B", "goal": "A"}


def world_of(config: dict[str, Any], options: dict[str, Any]) -> EnvSpec:
    suite = make_suite("other_symbols", {"episodes": 1, **options}, OelConfig.model_validate(config))
    assert isinstance(suite, EpisodeSuite)
    return suite.episodes.spec


def test_the_world_is_the_runs_own_unless_the_suite_says_otherwise() -> None:
    config = {"environment": {"name": "lake", "options": LAKE, "max_turns": 9}}
    assert world_of(config, {}) == EnvSpec("lake", {**LAKE, "symbols": "random"}, 9)
    assert world_of(config, {"world": {"size": 5}}).options["size"] == 5
    elsewhere = world_of({"environment": {"name": "frozen_lake", "options": {"size": 3}}}, {})
    assert elsewhere == EnvSpec("lake", {"symbols": "random"}, 5)
    make_env(elsewhere, 0)


def test_wrong_options_of_the_world_are_refused_before_play() -> None:
    with pytest.raises(ConfigError, match="size"):
        make_suite("other_symbols", {"world": {"size": 99}}, small_config())
