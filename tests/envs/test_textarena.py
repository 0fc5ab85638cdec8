"""TextArena's games without their rules."""

import re
from collections import deque

import pytest

from oel_core.envs import EnvSpec, make_env
from oel_core.envs.textarena import FrozenLake, Sokoban
from oel_core.errors import EnvironmentError_

MOVES = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
GAMES = ("frozen_lake", "sokoban")


def lake_grid(observation: str) -> list[list[str]]:
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in re.findall(r"^\|.*\|$", observation, re.M)]


def path(grid: list[list[str]], target: str, deadly: str = "H") -> list[str]:
    """A shortest path from the top left to the first cell showing `target`."""
    queue, seen = deque([((0, 0), [])]), {(0, 0)}
    while queue:
        (row, column), moves = queue.popleft()
        if grid[row][column] == target:
            return moves
        for move, (down, right) in MOVES.items():
            cell = (row + down, column + right)
            inside = 0 <= cell[0] < len(grid) and 0 <= cell[1] < len(grid)
            if inside and cell not in seen and grid[cell[0]][cell[1]] in {"", target} - {deadly} | {target}:
                seen.add(cell)
                queue.append((cell, [*moves, move]))
    raise AssertionError(f"no path to {target}")


def test_first_observation_is_the_board_alone() -> None:
    first = make_env(EnvSpec("frozen_lake"), 5).start()
    assert re.fullmatch(
        r"Current Board:\n\n(\+-----\+-----\+-----\+\n(\|.*\|\n)?)+\nAvailable Actions: "
        r"\[up\], \[down\], \[left\], \[right\], \[w\], \[a\], \[s\], \[d\]",
        first,
    )
    assert (first.count("H"), first.count("G")) == (2, 1)
    sokoban = make_env(EnvSpec("sokoban"), 5).start()
    assert sokoban.startswith("Current Board:\n\n# # # # # #\n")
    assert sokoban.endswith("\nAvailable Moves: up, down, left, right")


def test_reaching_the_goal_passes() -> None:
    environment = make_env(EnvSpec("frozen_lake", {"size": 4, "holes": 3}), 11)
    *on_the_way, last = [environment.step(move) for move in path(lake_grid(environment.start()), "G")]
    assert {(step.reward, step.terminated) for step in on_the_way} == {(0.0, False)}
    assert (last.reward, last.terminated) == (1.0, True)
    assert environment.feedback(truncated=False) == "Success: Congratulations! You reached the goal!"


def test_falling_in_keeps_the_games_partial_reward() -> None:
    environment = make_env(EnvSpec("frozen_lake"), 11)
    steps = [environment.step(move) for move in path(lake_grid(environment.start()), "H")]
    assert steps[-1].terminated
    assert 0.0 < steps[-1].reward < 1.0
    assert environment.feedback(truncated=False).startswith("Failure: You fell into a hole! Game over.")
    assert environment.step("up").terminated


def test_a_wall_is_answered_and_a_second_invalid_move_in_a_row_ends_the_game() -> None:
    environment = make_env(EnvSpec("frozen_lake"), 3)
    bump = environment.step("up")
    assert "hit a wall" in bump.observation
    assert not bump.terminated
    last = environment.step(None)
    assert (last.terminated, last.reward) == (True, 0.0)
    assert environment.feedback(truncated=False).startswith("Failure: Invalid Move: ")


def test_a_valid_move_forgives_an_invalid_one() -> None:
    environment = make_env(EnvSpec("frozen_lake", {"size": 6, "holes": 0}), 0)
    for move in ("down", "up", "right", "left"):
        assert not environment.step(None).terminated
        assert not environment.step(move).terminated


def test_no_echo_and_no_prefix() -> None:
    environment = make_env(EnvSpec("frozen_lake", {"holes": 0}), 0)
    observation = environment.step("down").observation
    assert observation.startswith("You moved down to position (1, 0).\nCurrent Board:\n\n+")
    assert "[GAME]" not in observation


@pytest.mark.parametrize("name", GAMES)
def test_the_games_own_turn_limit_does_not_come_first(name: str) -> None:
    spec = EnvSpec(name, {"holes": 0} if name == "frozen_lake" else {}, max_turns=250)
    environment = make_env(spec, 0)
    free = next(move for move in MOVES if "invalid" not in make_env(spec, 0).step(move).observation)
    back = {"up": "down", "down": "up", "left": "right", "right": "left"}[free]
    for turn in range(250):
        assert not environment.step(back if turn % 2 else free).terminated, turn
    assert environment.feedback(truncated=True) == "Failure: round limit reached"


@pytest.mark.parametrize(
    ("cls", "target"),
    [
        (FrozenLake, "textarena.envs.FrozenLake.env.FrozenLakeEnv._prompt"),
        (Sokoban, "textarena.envs.Sokoban.env.SokobanEnv._generate_player_prompt"),
    ],
)
def test_rules_that_are_not_found_are_an_error_and_never_a_leak(
    cls: type, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, texts = EnvSpec(cls.__name__), iter(f"Rules, version {number}" for number in range(9))
    monkeypatch.setattr(target, lambda self, player_id, game_state: next(texts))  # another text at every call
    with pytest.raises(EnvironmentError_, match="rules text of the game was not found"):
        cls(spec, 0)
    monkeypatch.setattr(target, lambda self, player_id, game_state: "")
    with pytest.raises(EnvironmentError_, match="rules text of the game was not found"):
        cls(spec, 0)
    monkeypatch.setattr(cls, "_rules_function", "renamed_upstream")
    with pytest.raises(EnvironmentError_, match="rules text of the game was not found"):
        cls(spec, 0)


def test_rules_repeated_outside_the_prompt_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "textarena.envs.FrozenLake.env.FrozenLakeEnv._prompt",
        lambda self, player_id, game_state: "Rules\nCurrent Board:",
    )
    with pytest.raises(EnvironmentError_, match="repeats the rules: 'Current Board:'"):
        FrozenLake(EnvSpec("frozen_lake"), 0)


def test_a_seed_without_a_board_is_retried_the_same_way_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from textarena.envs.Sokoban.env import SokobanEnv

    tried: list[int] = []
    reset = SokobanEnv.reset

    def stubborn(self: SokobanEnv, num_players: int, seed: int) -> None:
        tried.append(seed)
        if len(tried) % 3:
            raise RuntimeError("Failed to generate valid room after 50 attempts")
        reset(self, num_players=num_players, seed=seed)

    monkeypatch.setattr(SokobanEnv, "reset", stubborn)
    boards = [make_env(EnvSpec("sokoban"), 17).start() for _ in range(2)]
    assert boards[0] == boards[1]
    assert tried[:3] == tried[3:]
    assert tried[0] == 17
    assert len(set(tried)) == 3

    monkeypatch.setattr(
        SokobanEnv, "reset", lambda self, num_players, seed: (_ for _ in ()).throw(RuntimeError("none"))
    )
    with pytest.raises(EnvironmentError_, match="gave no board for seed 17"):
        make_env(EnvSpec("sokoban"), 17)


def solve_sokoban(observation: str) -> list[str]:
    """Breadth-first over (player, box)."""
    rows = [row.split() for row in re.findall(r"^#.*#$", observation, re.M)]
    places = {(r, c): mark for r, row in enumerate(rows) for c, mark in enumerate(row)}
    found = {mark: [cell for cell, shown in places.items() if shown == mark] for mark in "PXO"}
    target = found["O"][0]
    start = (found["P"][0], found["X"][0])
    queue, seen = deque([(start, [])]), {start}
    while queue:
        (player, box), moves = queue.popleft()
        if box == target:
            return moves
        for move, (down, right) in MOVES.items():
            ahead = (player[0] + down, player[1] + right)
            beyond = (ahead[0] + down, ahead[1] + right) if ahead == box else box
            state = (ahead, beyond)
            if places[ahead] != "#" and places[beyond] != "#" and state not in seen:
                seen.add(state)
                queue.append((state, [*moves, move]))
    raise AssertionError("the room cannot be solved")


@pytest.mark.parametrize("seed", range(5))
def test_a_solved_sokoban_passes(seed: int) -> None:
    environment = make_env(EnvSpec("sokoban", max_turns=200), seed)
    steps = [environment.step(move) for move in solve_sokoban(environment.start())]
    assert [step.terminated for step in steps] == [False] * (len(steps) - 1) + [True]
    assert steps[-1].reward == 1.0
    assert environment.feedback(truncated=False).startswith("Success: ")


def test_the_papers_lake_has_nineteen_boards() -> None:
    assert len({make_env(EnvSpec("frozen_lake"), seed).layout for seed in range(600)}) == 19
