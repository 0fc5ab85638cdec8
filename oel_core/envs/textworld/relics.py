"""The relics: a small TextWorld family in which one has to find out what may be taken, and in which order.

Four rooms in a ring, and relics that lie about in them, each named by a letter. Some are cursed and lose the game when
taken; one is the key; one is the treasure, which wins with the key and loses without it. What a letter
means is never said; the player reads what TextWorld says about rooms and things, and at the end what happened.

This module draws the worlds and renders them as TextWorld does, without TextWorld: `Story` gives the observations of
the compiled game, byte for byte, which a test checks. The environment is `oel_core.envs.textworld.relics_game`.
"""

import hashlib
import json
import random
from typing import Literal, NamedTuple, Self

from pydantic import Field, model_validator

from oel_core.envs.lake import ALPHABET
from oel_core.envs.textworld.handmade import Fact, HandMade, Path, Quest
from oel_core.envs.textworld.options import TextWorldOptions
from oel_core.prompts.extraction.itemised import MARKER

NAMES = ("hall", "cave", "yard", "loft")
EXITS: tuple[dict[str, int], ...] = (
    {"east": 1, "south": 3},
    {"south": 2, "west": 0},
    {"north": 1, "west": 3},
    {"east": 2, "north": 0},
)
"""Of each room: direction → room. East of the hall is the cave, south of that the yard, west of that the loft."""
ROUND = ("east", "south", "west", "north")
"""Of each room: the way on around the ring, on which every room is met within three moves."""

PICKED_UP = ("You pick up the relic ", " from the ground.")
POINT = "Your score has just gone up by one point."
CARRYING_NOTHING = "You are carrying nothing."
CARRYING = ("You are carrying: a relic ", ".")
CURSED = "It was cursed."
SEALED = "It was sealed, and you had no key."
WON = "It is what you came for."


class Meanings(NamedTuple):
    """The meanings of a world's letters."""

    curses: str
    """One letter each."""
    key: str
    treasure: str

    @property
    def letters(self) -> str:
        return self.curses + self.key + self.treasure


DEPLOYMENT = Meanings(curses="MT", key="S", treasure="B")


def _deployment() -> dict[Literal["curses", "key", "treasure"], str] | Literal["random"]:
    return {"curses": DEPLOYMENT.curses, "key": DEPLOYMENT.key, "treasure": DEPLOYMENT.treasure}


class RelicsOptions(TextWorldOptions):
    """Options of `textworld_relics`."""

    curses: int = Field(default=2, ge=0, le=4)
    """Relics that lose the game when taken."""
    key: bool = True
    """Whether the treasure needs the key."""
    symbols: dict[Literal["curses", "key", "treasure"], str] | Literal["random"] = Field(default_factory=_deployment)
    """Letters of the curses (as many as there are, or more), the key and the treasure; or `random`: sampled by the
    seed."""

    @model_validator(mode="after")
    def _letters(self) -> Self:
        if self.symbols != "random":
            given = [self.symbols.get("curses", ""), self.symbols.get("key", ""), self.symbols.get("treasure", "")]
            letters = "".join(given)
            if (
                len(set(letters)) != len(letters)
                or set(letters) - set(ALPHABET)
                or [len(g) for g in given[1:]] != [1, 1]
            ):
                raise ValueError("symbols must give curses, key and treasure different capital letters each, not P")
            if len(given[0]) < self.curses:
                raise ValueError(f"curses is {self.curses}, but symbols.curses names only {len(given[0])} letter(s)")
        return self

    def meanings(self, rng: random.Random) -> Meanings:
        """The letters of one world; `rng` is used if they are random."""
        if self.symbols == "random":
            return draw_meanings(self.curses, rng)
        return Meanings(self.symbols["curses"][: self.curses], self.symbols["key"], self.symbols["treasure"])


class Board(NamedTuple):
    """One world: the meanings and positions of its letters."""

    meanings: Meanings
    key: bool
    """Whether there is a key that the treasure needs."""
    places: dict[str, int]
    """Letter → room, in alphabetical order, which is the order in which TextWorld lists them."""


def deployment_facts(meanings: Meanings) -> int:
    """Number of the deployment's facts that hold for these letters."""
    cursed = len(set(meanings.curses) & set(DEPLOYMENT.curses))
    return cursed + (meanings.key == DEPLOYMENT.key) + (meanings.treasure == DEPLOYMENT.treasure)


def draw_meanings(curses: int, rng: random.Random) -> Meanings:
    """Letters of which at most one has its meaning in the deployment."""
    while True:
        key, treasure, *cursed = rng.sample(ALPHABET, curses + 2)
        meanings = Meanings("".join(cursed), key, treasure)
        if deployment_facts(meanings) < 2:
            return meanings


def draw_board(options: RelicsOptions, rng: random.Random) -> Board:
    """A random world; all can be won."""
    meanings = options.meanings(rng)
    lying = meanings.curses + meanings.treasure + (meanings.key if options.key else "")
    return Board(meanings, options.key, {letter: rng.randrange(len(NAMES)) for letter in sorted(lying)})


def describe(room: int) -> str:
    """A room's description."""
    return f"You can go {' or '.join(sorted(EXITS[room]))}."


def _way(board: Board, room: int, letter: str) -> tuple[list[str], int]:
    """The commands that fetch a relic from `room`, and the room they end in."""
    commands = []
    while room != board.places[letter]:
        commands.append(f"go {ROUND[room]}")
        room = EXITS[room][ROUND[room]]
    return [*commands, f"take relic {letter}"], room


def hand_made(board: Board) -> HandMade:
    """The world as a TextWorld game: one point for the key, one for the treasure."""
    letters = list(board.places)
    treasure = letters.index(board.meanings.treasure)
    has_treasure: Fact = (treasure, None)
    fails: list[tuple[Fact, ...]] = [((letters.index(curse), None),) for curse in board.meanings.curses]
    commands, room = _way(board, 0, board.meanings.key) if board.key else ([], 0)
    quests: tuple[Quest, ...] = (Quest(wins=((has_treasure,),), fails=tuple(fails)),)
    if board.key:
        key = letters.index(board.meanings.key)
        fails += [(has_treasure, (key, lies)) for lies in range(len(NAMES))]
        quests = (Quest(wins=(((key, None),),)), Quest(wins=((has_treasure, (key, None)),), fails=tuple(fails)))
    return HandMade(
        rooms=tuple((name, describe(number)) for number, name in enumerate(NAMES)),
        paths=(
            Path(0, "east", 1, "west"),
            Path(1, "south", 2, "north"),
            Path(2, "west", 3, "east"),
            Path(3, "north", 0, "south"),
        ),
        things=tuple((f"relic {letter}", place) for letter, place in board.places.items()),
        start=0,
        quests=quests,
        solution=(*commands, *_way(board, room, board.meanings.treasure)[0]),
    )


def verdict(board: Board, letter: str, *, has_key: bool) -> str | None:
    """The message if taking this relic ends the game, otherwise None."""
    if letter in board.meanings.curses:
        return CURSED
    if letter == board.meanings.treasure:
        return WON if has_key or not board.key else SEALED
    return None


def item_curse(symbol: str) -> str:
    return f"{MARKER} '{symbol}' is cursed: never take it."


def item_key(symbol: str) -> str:
    return f"{MARKER} '{symbol}' opens what is sealed: take it first."


def item_sealed(symbol: str) -> str:
    return f"{MARKER} '{symbol}' is sealed without a key: do not take it yet."


def item_treasure(symbol: str) -> str:
    return f"{MARKER} '{symbol}' is the treasure: take it to win."


def truths(board: Board) -> str:
    """Ground-truth knowledge of a world's letters, in the form of an extractor's output."""
    facts = [item_curse(letter) for letter in board.meanings.curses]
    if board.key:
        facts += [item_key(board.meanings.key), item_sealed(board.meanings.treasure)]
    return "\n".join([*facts, item_treasure(board.meanings.treasure)])


def _listed(letters: list[str]) -> str:
    named = [f"a relic {letter}" for letter in letters]
    return " and ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)


def view(room: int, floor: list[str], carried: list[str]) -> str:
    """A room, its contents and the inventory, in TextWorld's form."""
    parts = [f"-= {NAMES[room].title()} =-\n{describe(room)}"]
    parts += [f"There is {_listed(floor)} on the floor."] if floor else []
    parts.append(f"You are carrying: {_listed(carried)}." if carried else CARRYING_NOTHING)
    return "\n\n".join(parts)


def layout(board: Board) -> str:
    """Digest of the hidden world."""
    return hashlib.sha256(json.dumps([*board.meanings, board.key, board.places]).encode()).hexdigest()[:16]
