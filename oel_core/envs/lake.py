"""The hidden lake: a grid world in TextArena's rendering whose symbols have the meanings given by its options.

It has more to learn than TextArena's Frozen Lake, and some of it is visible to better players only: a common deadly
symbol, a rare deadly one, a key, and a goal that fails without the key. The meaning of a symbol is never stated; the
player sees its moves, their results, and how the game ended.
"""

import hashlib
import random
from collections import deque
from collections.abc import Iterable
from functools import cached_property
from typing import ClassVar, Literal, NamedTuple

from pydantic import Field, model_validator

from oel_core.envs.base import HIDDEN_RULES, LEARN_RULES, EnvSpec, Step
from oel_core.envs.grid import GRID_INTRO, parse_grid_action
from oel_core.envs.options import EnvOptions, parse_options
from oel_core.errors import EnvironmentError_
from oel_core.prompts.extraction.itemised import MARKER

Role = Literal["hole", "trap", "key", "goal"]
ROLES: tuple[Role, ...] = ("hole", "trap", "key", "goal")
ALPHABET = "ABCDEFGHIJKLMNOQRSTUVWXYZ"  # every capital but the player's P
DEPLOYMENT_SYMBOLS: dict[Role, str] = {"hole": "H", "trap": "X", "key": "K", "goal": "G"}
MOVES = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
ACTIONS_LINE = "Available Actions: [up], [down], [left], [right], [w], [a], [s], [d]"

FELL = "You fell into a hole! Game over."
DRAGGED = "Something dragged you under! Game over."
CLOSED = "The way was closed and you had no key! Game over."
WON = "Congratulations! You reached the goal!"
PICKED_UP = "You picked up a key."
WALL = "A wall stops you."
NOT_UNDERSTOOD = "That is not an action."
ROUND_LIMIT = "Failure: round limit reached"


class Cell(NamedTuple):
    """A cell of the board, counted from the top left."""

    row: int
    column: int

    def moved(self, action: str) -> "Cell":
        delta_row, delta_column = MOVES[action]
        return Cell(self.row + delta_row, self.column + delta_column)


class LakeOptions(EnvOptions):
    """Options of the `lake` environment."""

    size: int = Field(default=4, ge=3, le=8)
    """Cells along one side."""
    holes: int = Field(default=3, ge=0)
    """Cells with the common deadly symbol."""
    traps: int = Field(default=1, ge=0)
    """Cells with the rare deadly symbol."""
    key: bool = True
    """Whether the goal needs the key to be taken first."""
    corners: bool = False
    """Start top left and goal bottom right, as in Frozen Lake; otherwise anywhere."""
    symbols: dict[Role, str] | Literal["random"] = DEPLOYMENT_SYMBOLS
    """Letter of each role, or `random`: sampled for every seed."""

    @model_validator(mode="after")
    def _fits(self) -> "LakeOptions":
        things = 2 + self.holes + self.traps + self.key
        if things > self.size**2 // 2:
            raise ValueError(f"{things} things do not fit a {self.size}x{self.size} board: at most half its cells")
        if self.symbols != "random":
            letters = [self.symbols.get(role, "") for role in ROLES]
            if len(set(letters)) != len(ROLES) or any(letter not in ALPHABET or len(letter) != 1 for letter in letters):
                raise ValueError("symbols must give hole, trap, key and goal a different capital letter each, not P")
        return self


class Board(NamedTuple):
    """Positions of everything on the board."""

    size: int
    player: Cell
    things: dict[Cell, Role]

    def inside(self, cell: Cell) -> bool:
        return 0 <= cell.row < self.size and 0 <= cell.column < self.size

    def find(self, role: Role) -> Cell | None:
        return next((cell for cell, thing in self.things.items() if thing == role), None)


def distances(size: int, target: Cell, blocked: Iterable[Cell]) -> dict[Cell, int]:
    """Number of moves from every cell that can reach `target` without entering a blocked cell."""
    closed = set(blocked)
    found = {target: 0}
    queue = deque([target])
    while queue:
        here = queue.popleft()
        for action in MOVES:
            cell = here.moved(action)
            inside = 0 <= cell.row < size and 0 <= cell.column < size
            if inside and cell not in closed and cell not in found:
                found[cell] = found[here] + 1
                queue.append(cell)
    return found


def _solvable(board: Board) -> bool:
    goal, key = board.find("goal"), board.find("key")
    deadly = [cell for cell, role in board.things.items() if role in ("hole", "trap")]
    assert goal is not None
    if key is None:
        return board.player in distances(board.size, goal, deadly)
    to_key = distances(board.size, key, [*deadly, goal])
    return board.player in to_key and key in distances(board.size, goal, deadly)


def draw_board(options: LakeOptions, rng: random.Random) -> Board:
    """A random solvable board."""
    cells = [Cell(row, column) for row in range(options.size) for column in range(options.size)]
    counts: dict[Role, int] = {"hole": options.holes, "trap": options.traps, "key": int(options.key)}
    roles = [role for role, count in counts.items() for _ in range(count)]
    for _ in range(1000):
        if options.corners:
            player, goal = cells[0], cells[-1]
            places = rng.sample(cells[1:-1], len(roles))
        else:
            player, goal, *places = rng.sample(cells, len(roles) + 2)
        board = Board(options.size, player, {**dict(zip(places, roles, strict=True)), goal: "goal"})
        if _solvable(board):
            return board
    raise EnvironmentError_(f"no board that can be won in 1000 draws for {options}: ask for fewer holes")


def deployment_facts(symbols: dict[Role, str]) -> int:
    """Number of the deployment's facts that hold for these symbols; the two deadly roles are one fact."""
    own, deadly = DEPLOYMENT_SYMBOLS, {symbols["hole"], symbols["trap"]}
    return len(deadly & {own["hole"], own["trap"]}) + (symbols["key"] == own["key"]) + (symbols["goal"] == own["goal"])


def draw_symbols(rng: random.Random) -> dict[Role, str]:
    """Letters for the roles, of which at most one has its meaning in the deployment."""
    while True:
        letters: dict[Role, str] = dict(zip(ROLES, rng.sample(ALPHABET, len(ROLES)), strict=True))
        if deployment_facts(letters) < 2:
            return letters


def render(board: Board, symbols: dict[Role, str]) -> str:
    """The board as TextArena's Frozen Lake draws it."""
    line = "+" + "+".join(["-----"] * board.size) + "+"
    letters = {cell: symbols[role] for cell, role in board.things.items()}
    rows = [line]
    for row in range(board.size):
        cells = (Cell(row, column) for column in range(board.size))
        shown = ["P" if cell == board.player else letters.get(cell, " ") for cell in cells]
        rows += ["|" + "|".join(f"{symbol:^5}" for symbol in shown) + "|", line]
    return "\n".join(rows)


def item_bad(symbol: str) -> str:
    return f"{MARKER} '{symbol}' ends the game in failure: never step on it."


def item_key(symbol: str) -> str:
    return f"{MARKER} '{symbol}' is a key: pick it up first."


def item_gate(symbol: str) -> str:
    return f"{MARKER} '{symbol}' is closed without a key: do not go there yet."


def item_goal(symbol: str) -> str:
    return f"{MARKER} '{symbol}' is the goal: reach it to win."


class LakeEnv:
    """One episode on the hidden lake. See `oel_core.envs.base.Environment`."""

    Options: ClassVar = LakeOptions
    instructions = HIDDEN_RULES
    intro = GRID_INTRO
    extraction_task = LEARN_RULES

    def __init__(self, spec: EnvSpec, seed: int) -> None:
        self.options = parse_options(LakeOptions, spec)
        rng = random.Random(seed)
        self.symbols = draw_symbols(rng) if self.options.symbols == "random" else dict(self.options.symbols)
        self.board = draw_board(self.options, rng)
        self._ending: str | None = None
        self._passed = False

    @cached_property
    def layout(self) -> str:
        """Digest of the first board, symbols included."""
        return hashlib.sha256(render(self._first_board, self.symbols).encode()).hexdigest()[:16]

    @cached_property
    def _first_board(self) -> Board:
        return self.board

    def start(self) -> str:
        """The first observation."""
        _ = self.layout  # the first board is remembered before anything moves
        return self._observe([])

    def parse(self, response: str) -> str | None:
        """The last bracketed move of the response."""
        return parse_grid_action(response)

    def _observe(self, events: list[str]) -> str:
        board = render(self.board, self.symbols)
        return "\n".join([*events, f"Current Board:\n\n{board}\n\n{ACTIONS_LINE}"])

    def step(self, action: str | None) -> Step:
        """Moves the player one cell; at walls and for unknown actions it stays."""
        if self._ending is not None:
            return Step(self._observe(["The game is over."]), 0.0, terminated=True)
        if action not in MOVES:
            return Step(self._observe([NOT_UNDERSTOOD]), 0.0, terminated=False)
        target = self.board.player.moved(action)
        if not self.board.inside(target):
            return Step(self._observe([WALL]), 0.0, terminated=False)
        events = [f"You moved {action} to position ({target.row}, {target.column})."]
        events += self._enter(target)
        return Step(self._observe(events), float(self._passed), terminated=self._ending is not None)

    def _enter(self, cell: Cell) -> list[str]:
        role = self.board.things.get(cell)
        things = {place: thing for place, thing in self.board.things.items() if thing != "key" or place != cell}
        self.board = self.board._replace(player=cell, things=things)
        if role == "key":
            return [PICKED_UP]
        if role == "goal":
            self._passed = self.board.find("key") is None
            self._ending = WON if self._passed else CLOSED
        elif role is not None:
            self._ending = FELL if role == "hole" else DRAGGED
        return []

    def feedback(self, *, truncated: bool) -> str:
        """How the episode ended."""
        if self._ending is None:
            return ROUND_LIMIT if truncated else "Failure: the episode was not finished"
        return f"{'Success' if self._passed else 'Failure'}: {self._ending}"

    def truths(self) -> str:
        """Ground-truth knowledge of this episode's symbols, in the form of an extractor's output."""
        facts = [item_bad(self.symbols["hole"])] if self.options.holes else []
        facts += [item_bad(self.symbols["trap"])] if self.options.traps else []
        if self.options.key:
            facts += [item_key(self.symbols["key"]), item_gate(self.symbols["goal"])]
        return "\n".join([*facts, item_goal(self.symbols["goal"])])

    def close(self) -> None:
        """No-op."""
