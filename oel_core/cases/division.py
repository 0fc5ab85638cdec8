"""Which of an inbox's sessions are trained on, and which become cases.

Sessions that share a person, a conversation or nearly all their words are one group, and a group is never divided. A
group that continues earlier sessions goes where they went. New groups are dealt in an order drawn from the seed until
the shares are full; one that does not fit is trained on. A group that joins sessions of different shares is set aside:
it is neither trained on nor measured with.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

from oel_core.cases.similarity import NearDuplicates, asked
from oel_core.config.operation import CasesConfig
from oel_core.seeds import derive_seed
from oel_core.types import Trajectory

Place = Literal["training", "held_out", "validation", "aside"]


@dataclass(frozen=True)
class Placed:
    """A session that was divided earlier, by what tells whether a new one belongs to it."""

    said: str
    """Everything that its user said."""
    user: str
    session: str
    place: Place

    @classmethod
    def of(cls, episode: Trajectory, place: Place) -> Self:
        """Of a recorded session."""
        return cls(asked(episode), episode.user, episode.session, place)


def divide(sessions: Sequence[Trajectory], earlier: Iterable[Placed], settings: CasesConfig, seed: int) -> list[Place]:
    """The place of each new session, in their order.

    Args:
        earlier: every session that an earlier round divided.
        seed: of the order in which groups are dealt.
    """
    groups, before = _Groups(settings.similar), list[Place]()
    for known in earlier:
        groups.add(known.said, known.user, known.session)
        before.append(known.place)
    for session in sessions:
        groups.add(asked(session), session.user, session.session)
    names = groups.names()
    old = defaultdict[int, set[Place]](set)
    for name, place in zip(names, before, strict=False):
        if place != "aside":
            old[name].add(place)
    new = names[len(before) :]
    places = _dealt(new, old, settings, {name: _order(seed, sessions[at]) for at, name in _first(new).items()})
    return [places[name] for name in new]


def _first(names: Sequence[int]) -> dict[int, int]:
    """Position of each group's first session → the group."""
    seen = dict[int, int]()
    for at, name in enumerate(names):
        seen.setdefault(name, at)
    return {at: name for name, at in seen.items()}


def _order(seed: int, session: Trajectory) -> int:
    return derive_seed("cases", seed, session.user, session.session, session.id)


def _dealt(
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
    """Sessions joined by person, conversation and words (union by the lowest number)."""

    def __init__(self, similar: float) -> None:
        self._alike, self._owners = NearDuplicates(similar), dict[tuple[str, str], int]()
        self._joined: list[int] = []

    def add(self, said: str, user: str, session: str) -> None:
        number = len(self._joined)
        self._joined.append(number)
        for kind, owner in (("user", user), ("session", session)):
            if owner:
                self._join(number, self._owners.setdefault((kind, owner), number))
        for other in self._alike.add(said):
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
