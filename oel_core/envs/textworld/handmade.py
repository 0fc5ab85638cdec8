"""A TextWorld game described by hand: plain data, so that worlds can be written and tested without TextWorld."""

from dataclasses import dataclass

Fact = tuple[int, int | None]
"""(thing, room): the thing lies in that room; (thing, None): the player carries it. Both count from 0."""


@dataclass(frozen=True)
class Path:
    """Two rooms that lead to each other: out of `one` by `way`, and back out of `other` by `way_back`."""

    one: int
    way: str
    other: int
    way_back: str


@dataclass(frozen=True)
class Quest:
    """Worth a point. Each entry of `wins` and `fails` is a set of facts that hold together."""

    wins: tuple[tuple[Fact, ...], ...]
    fails: tuple[tuple[Fact, ...], ...] = ()
    """A fact set that loses the whole game."""


@dataclass(frozen=True)
class HandMade:
    """A whole game. Things are listed by TextWorld in the order they have here."""

    rooms: tuple[tuple[str, str], ...]
    """Name and description; names differ."""
    paths: tuple[Path, ...]
    things: tuple[tuple[str, int], ...]
    """Name and room; names differ, and every thing can be taken."""
    start: int
    """The player's first room."""
    quests: tuple[Quest, ...]
    solution: tuple[str, ...]
    """Commands that win."""
