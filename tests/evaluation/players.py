"""Lake players that are rules, and the small configuration they are measured under."""

import re

from oel_core.config.run import OelConfig
from oel_core.policies.scripted import ScriptedPolicy
from oel_core.types import Message

MOVES = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
LAKE = {"size": 3, "holes": 2, "traps": 0, "key": False}


def small_config(**evaluate: object) -> OelConfig:
    """A 3x3 lake with two holes, ten held-out episodes."""
    return OelConfig.model_validate(
        {
            "seed": 3,
            "environment": {"name": "lake", "options": LAKE, "max_turns": 8},
            "evaluate": {"games": {"episodes": 10}, **evaluate},
        }
    )


def read_board(text: str) -> list[list[str]]:
    rows = re.findall(r"^\|(.*)\|$", text, re.MULTILINE)
    return [[cell.strip() for cell in row.split("|")] for row in rows]


def first_step(board: list[list[str]], goal: str, deadly: set[str]) -> str:
    """The first move of a shortest way to the goal letter, or nothing sensible when there is none."""
    size = len(board)
    start = next((row, column) for row in range(size) for column in range(size) if board[row][column] == "P")
    paths = [(start, "")]
    seen = {start}
    for (row, column), first in paths:
        if board[row][column] == goal:
            return first
        for name, (down, right) in MOVES.items():
            cell = (row + down, column + right)
            inside = 0 <= cell[0] < size and 0 <= cell[1] < size
            if inside and cell not in seen and board[cell[0]][cell[1]] not in deadly:
                seen.add(cell)
                paths.append((cell, first or name))
    return "up"


def follower(*, batch_size: int = 4) -> ScriptedPolicy:
    """Wins wherever its prompt tells the truth about the goal and the holes; knows nothing by itself."""

    def respond(messages: tuple[Message, ...], seed: int) -> str:
        prompt = messages[0].content
        goal = re.search(r"'(\w)' is the goal", prompt)
        deadly = set(re.findall(r"'(\w)' ends the game", prompt))
        return f"[{first_step(read_board(messages[-1].content), goal[1], deadly)}]" if goal else "who knows?"

    return ScriptedPolicy(respond, name="follower", batch_size=batch_size)


def parrot(*, batch_size: int = 4) -> ScriptedPolicy:
    """Wins on the deployment's letters alone; does not read its prompt."""

    def respond(messages: tuple[Message, ...], seed: int) -> str:
        return f"[{first_step(read_board(messages[-1].content), 'G', {'H'})}]"

    return ScriptedPolicy(respond, name="parrot", batch_size=batch_size)


def wanderer(*, batch_size: int = 4) -> ScriptedPolicy:
    """Moves as its seed says."""

    def respond(messages: tuple[Message, ...], seed: int) -> str:
        return f"[{list(MOVES)[seed % 4]}]"

    return ScriptedPolicy(respond, name="wanderer", batch_size=batch_size)
