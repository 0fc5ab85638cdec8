"""Splits an inbox's sessions into training, held-out and validation shares without leakage.

Sessions with the same user, the same conversation or nearly the same words form a group; a group is never split. A
group that contains earlier sessions gets their share. New groups are assigned in a seeded random order until the shares
are full; groups that do not fit are used for training. A group that joins sessions of different shares is set aside:
it is used for neither training nor evaluation.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

from oel_core.cases.similarity import NearDuplicates, user_text
from oel_core.config.operation import CasesConfig
from oel_core.seeds import derive_seed
from oel_core.types import Trajectory

Place = Literal["training", "held_out", "validation", "aside"]


@dataclass(frozen=True)
class AssignedSession:
    """A session assigned by an earlier round, with the fields by which later sessions are grouped with it."""

    said: str
    """All messages of its user."""
    user: str
    session: str
    place: Place

    @classmethod
    def of(cls, episode: Trajectory, place: Place) -> Self:
        """The entry of a recorded session."""
        return cls(user_text(episode), episode.user, episode.session, place)


def divide(
    sessions: Sequence[Trajectory], earlier: Iterable[AssignedSession], settings: CasesConfig, seed: int
) -> list[Place]:
    """The share of each new session, in order.

    Args:
        earlier: all sessions assigned by earlier rounds.
        seed: of the order of assignment.
    """
    groups, before = _Groups(settings.similar), list[Place]()
    for known in earlier:
        groups.add(known.said, known.user, known.session)
        before.append(known.place)
    for session in sessions:
        groups.add(user_text(session), session.user, session.session)
    names = groups.names()
    old = defaultdict[int, set[Place]](set)
    for name, place in zip(names, before, strict=False):
        if place != "aside":
            old[name].add(place)
    new = names[len(before) :]
    order = dict[int, int]()
    for name, session in zip(new, sessions, strict=True):
        order.setdefault(name, derive_seed("cases", seed, session.user, session.session, session.id))
    places = _assign_groups(new, old, settings, order)
    return [places[name] for name in new]


def _assign_groups(
    names: Sequence[int], old: Mapping[int, set[Place]], settings: CasesConfig, order: Mapping[int, int]
) -> dict[int, Place]:
    sizes, places = Counter(names), dict[int, Place]()
    for name in sizes:
        known = old.get(name, set())
        if known:
            places[name] = "aside" if len(known) > 1 else next(iter(known))
    left: dict[Place, int] = {
        "held_out": round(settings.held_out * len(names)),
        "validation": round(settings.validation * len(names)),
    }
    for name, place in places.items():
        if place in left:
            left[place] -= sizes[name]
    for name in sorted(sizes.keys() - places.keys(), key=lambda name: (order[name], name)):
        fitting = (place for place, room in left.items() if sizes[name] <= room)
        places[name] = next(fitting, "training")
        if places[name] in left:
            left[places[name]] -= sizes[name]
    return places


class _Groups:
    """Union-find over sessions, joined by user, conversation and near-duplicate text; roots are the lowest index."""

    def __init__(self, similar: float) -> None:
        self._similar, self._owners = NearDuplicates(similar), dict[tuple[str, str], int]()
        self._joined: list[int] = []

    def add(self, said: str, user: str, session: str) -> None:
        number = len(self._joined)
        self._joined.append(number)
        for kind, owner in (("user", user), ("session", session)):
            if owner:
                self._join(number, self._owners.setdefault((kind, owner), number))
        for other in self._similar.add(said):
            self._join(number, other)

    def names(self) -> list[int]:
        """The group of each session, in the order in which they were added."""
        return [self._root(number) for number in range(len(self._joined))]

    def _root(self, number: int) -> int:
        while self._joined[number] != number:
            self._joined[number] = number = self._joined[self._joined[number]]
        return number

    def _join(self, first: int, second: int) -> None:
        low, high = sorted((self._root(first), self._root(second)))
        self._joined[high] = low
