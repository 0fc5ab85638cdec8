"""The lake: effects of its symbols, and that no text reveals their meaning."""

import random

import pytest

from oel_core.envs import lake
from oel_core.envs.base import EnvSpec
from oel_core.envs.lake import Board, Cell, LakeEnv
from oel_core.errors import ConfigError

RICH = {"size": 4, "holes": 2, "traps": 1, "key": True}


def env_with(things: dict[Cell, lake.Role]) -> LakeEnv:
    env = LakeEnv(EnvSpec("lake", RICH), seed=0)
    env.board = Board(4, Cell(0, 0), things)
    return env


CORRIDOR: dict[Cell, lake.Role] = {Cell(0, 1): "key", Cell(0, 2): "goal", Cell(1, 0): "hole", Cell(1, 1): "trap"}


def test_key_then_goal_wins() -> None:
    env = env_with(CORRIDOR)
    picked_up = env.step("right")
    assert lake.PICKED_UP in picked_up.observation
    assert not picked_up.terminated
    won = env.step("right")
    assert (won.reward, won.terminated) == (1.0, True)
    assert env.feedback(truncated=False) == f"Success: {lake.WON}"


@pytest.mark.parametrize(
    ("moves", "ending"),
    [(["down"], lake.FELL), (["right", "down"], lake.DRAGGED)],
)
def test_deadly_cells_end_the_game(moves: list[str], ending: str) -> None:
    env = env_with(CORRIDOR)
    last = [env.step(move) for move in moves][-1]
    assert (last.reward, last.terminated) == (0.0, True)
    assert env.feedback(truncated=False) == f"Failure: {ending}"


def test_goal_without_key_ends_in_failure() -> None:
    env = env_with({Cell(0, 1): "goal", Cell(3, 3): "key"})
    step = env.step("right")
    assert (step.reward, step.terminated) == (0.0, True)
    assert env.feedback(truncated=False) == f"Failure: {lake.CLOSED}"


def test_goal_without_a_key_in_the_world_wins() -> None:
    env = LakeEnv(EnvSpec("lake", {"key": False, "traps": 0}), seed=1)
    env.board = Board(4, Cell(0, 0), {Cell(0, 1): "goal"})
    assert env.step("right").reward == 1.0


def test_walls_and_nonsense_leave_the_player_in_place() -> None:
    env = env_with(CORRIDOR)
    for action, answer in [("up", lake.WALL), (None, lake.NOT_UNDERSTOOD), ("jump", lake.NOT_UNDERSTOOD)]:
        step = env.step(action)
        assert step.observation.startswith(answer)
        assert not step.terminated
        assert env.board.player == Cell(0, 0)


def test_what_is_taken_or_stepped_on_leaves_no_name_behind() -> None:
    """The player's cell shows only P, so the symbol must be remembered from the board before."""
    observation = env_with(CORRIDOR).step("right").observation
    assert "K" not in observation.split("Board:")[1].split("Available")[0]


@pytest.mark.parametrize("seed", range(40))
def test_every_board_can_be_won(seed: int) -> None:
    env = LakeEnv(EnvSpec("lake", {"holes": 4, "traps": 1}), seed)
    deadly = [cell for cell, role in env.board.things.items() if role in ("hole", "trap")]
    key, goal = env.board.find("key"), env.board.find("goal")
    assert key is not None
    assert goal is not None
    assert env.board.player in lake.distances(4, key, [*deadly, goal])
    assert key in lake.distances(4, goal, deadly)


def test_drawn_symbols_never_repeat_two_of_the_deployments_roles() -> None:
    rng = random.Random(0)
    for _ in range(5000):
        letters = lake.draw_symbols(rng)
        assert len(set(letters.values())) == len(lake.ROLES)
        assert lake.deployment_facts(letters) < 2


def test_two_deadly_symbols_in_each_others_roles_are_still_known_facts() -> None:
    assert lake.deployment_facts({"hole": "X", "trap": "H", "key": "A", "goal": "B"}) == 2
    assert lake.deployment_facts({"hole": "X", "trap": "B", "key": "A", "goal": "G"}) == 2
    assert lake.deployment_facts({"hole": "G", "trap": "K", "key": "H", "goal": "X"}) == 0


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"size": 9}, "size"),
        ({"holes": 20}, "do not fit"),
        ({"colour": "red"}, "colour"),
        ({"symbols": {"hole": "P", "trap": "X", "key": "K", "goal": "G"}}, "capital letter"),
        ({"symbols": {"hole": "H", "goal": "H"}}, "capital letter"),
    ],
)
def test_wrong_options_are_refused_by_name(options: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        LakeEnv(EnvSpec("lake", options), 0)


def test_layout_is_that_of_the_first_board() -> None:
    env, twin = LakeEnv(EnvSpec("lake"), 5), LakeEnv(EnvSpec("lake"), 5)
    env.start()
    before = env.layout
    for action in ("up", "down", "left", "right"):
        env.step(action)
    assert env.layout == before == twin.layout
