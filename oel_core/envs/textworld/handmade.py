"""A TextWorld game described by hand: plain data, so that worlds can be written and tested without TextWorld."""

from dataclasses import dataclass

Fact = tuple[int, int | None]
"""(thing, room): the thing is in that room; (thing, None): the player carries it. Both count from 0."""


@dataclass(frozen=True)
class Path:
    """Two connected rooms: from `one` by `way`, and back from `other` by `way_back`."""

    one: int
    way: str
    other: int
    way_back: str


@dataclass(frozen=True)
class Quest:
    """Worth one point. Each entry of `wins` and `fails` is a set of facts that must hold together."""

    wins: tuple[tuple[Fact, ...], ...]
    fails: tuple[tuple[Fact, ...], ...] = ()
    """A set of facts that loses the whole game."""


@dataclass(frozen=True)
class HandMade:
    """A whole game. TextWorld lists things in the order given here."""

    rooms: tuple[tuple[str, str], ...]
    """Name and description; names are unique."""
    paths: tuple[Path, ...]
    things: tuple[tuple[str, int], ...]
    """Name and room; names are unique, and every thing can be taken."""
    start: int
    """The player's first room."""
    quests: tuple[Quest, ...]
    solution: tuple[str, ...]
    """Commands that win."""
