"""Cross-game suites."""

from typing import Any

import pytest

from oel_core.errors import ConfigError
from oel_core.evaluation import make_suite
from oel_core.seeds import reference_seed
from oel_core.types import Split, Trajectory
from tests.evaluation.players import LAKE, parrot, small_config, wanderer


def play(name: str, **options: Any) -> tuple[Any, list[Trajectory]]:
    played: list[Trajectory] = []
    return make_suite(name, options, small_config()).run(parrot(), on_episode=played.append), played


def test_the_other_world_is_played_and_named() -> None:
    report, played = play("cross_game", environment="frozen_lake", options={"size": 3, "holes": 1}, episodes=6)
    assert {episode.env for episode in played} == {"frozen_lake"}
    assert report.suite == "cross_game_frozen_lake"
    assert report.extra == {"environment": "frozen_lake", "options": {"size": 3, "holes": 1}, "max_turns": 8}


def test_several_suites_differ_by_their_labels() -> None:
    big, _ = play("cross_game_big", environment="lake", options={"size": 5}, episodes=2, max_turns=3)
    small, _ = play("cross_game_small", environment="lake", options={**LAKE, "holes": 1}, episodes=2)
    assert (big.suite, small.suite) == ("cross_game_big", "cross_game_small")
    assert big.turns <= 3
    assert big.extra["max_turns"] == 3


def test_every_round_plays_the_same_boards() -> None:
    suite = make_suite("cross_game", {"environment": "lake", "options": {"size": 5}, "episodes": 4}, small_config())
    found: list[list[int]] = []
    for policy in (parrot(), wanderer()):
        played: list[Trajectory] = []
        suite.run(policy, on_episode=played.append)
        found.append(sorted(episode.seed for episode in played))
    assert found[0] == found[1]


def test_the_papers_seeds_are_played_where_the_run_plays_them() -> None:
    config = small_config()
    paper = config.model_copy(update={"environment": config.environment.model_copy(update={"seeds": "paper"})})
    suite = make_suite("cross_game", {"environment": "lake", "options": {"size": 5}, "episodes": 3}, paper)
    played: list[Trajectory] = []
    suite.run(parrot(), on_episode=played.append)
    expected = [reference_seed(paper.seed, Split.HELD_OUT, 0, 0, index) for index in range(3)]
    assert sorted(episode.seed for episode in played) == sorted(expected)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"environment": "lake", "options": LAKE}, "the run's own world"),
        ({"environment": "laek"}, "did you mean lake"),
        ({"environment": "lake", "options": {"sise": 3}}, "sise"),
        ({}, "environment: is missing"),
    ],
)
def test_worlds_that_cannot_be_crossed_into(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){problem}"):
        make_suite("cross_game", options, small_config())
