"""Human review of a round's knowledge: the numbered items, and the decision.

The decision is stored in `round_01/review_decision.json` by the form in the Prefect UI, by `oel review`, or by the
timeout. It can be changed until the round continues.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from oel_core.errors import ConfigError
from oel_core.knowledge.contradictions import contradictions
from oel_core.knowledge.store import diff, empty, load_knowledge
from oel_core.projects.triggers import outcome_of
from oel_core.rounds.knowledge import ACCUMULATE, REVIEW
from oel_core.rounds.round import Round
from oel_core.runs.files import write_atomic
from oel_core.runs.manifest import read_optional, read_record
from oel_core.types import ExperienceItem, Record

DECISION, ASKED = "review_decision.json", "review_asked.json"
_SIGNS = re.compile(r"'([^' ]{1,3})'")


class Decision(Record):
    """The decision about a round's knowledge."""

    decision: Literal["approve", "reject"]
    dropped: tuple[int, ...] = ()
    """Numbers of the dropped items."""
    note: str = ""
    author: str = Field(min_length=1)
    via: Literal["prefect", "oel review", "timeout"]
    decided_at: float
    """Seconds since 1970, UTC."""


class ReviewRequest(Record):
    """Time at which a round first requested its review."""

    asked_at: float


@dataclass(frozen=True)
class ReviewItem:
    """One item of the round's knowledge, as displayed."""

    number: int
    """From 1, over all replicas."""
    replica: int
    item: ExperienceItem
    is_new: bool
    conflicts: tuple[int, ...]
    """Numbers of items of the same file about the same sign with different text."""


@dataclass(frozen=True)
class ReviewList:
    """The items shown to a reviewer."""

    items: tuple[ReviewItem, ...]
    gone: tuple[tuple[int, ExperienceItem], ...]
    """(replica, item) of items that the previous round had and this one lacks."""
    contradictions: tuple[tuple[int, ...], ...]
    """Numbers of items, of any replica, with the same subject and different statements."""


def review_list(round: Round) -> ReviewList:
    """The round's numbered items, compared with the knowledge that the round started from.

    Raises:
        ArtifactError: the round's knowledge has not been accumulated, or is damaged.
    """
    accumulated = round.stage(ACCUMULATE)
    accumulated.manifest()
    previous = round.previous_knowledge()
    items: list[ReviewItem] = []
    gone: list[tuple[int, ExperienceItem]] = []
    for replica in range(round.config.collect.replicas):
        new = load_knowledge(accumulated.path, replica)
        old = previous.get(replica) or empty(replica, round.number)
        changes = diff(old, new)
        gone += [(replica, item) for item in changes.dropped]
        first = len(items) + 1
        conflicts = _conflicts(new.items)
        items += [
            ReviewItem(
                first + place, replica, item, item in changes.new, tuple(first + other for other in conflicts[place])
            )
            for place, item in enumerate(new.items)
        ]
    alike = contradictions([entry.item for entry in items])
    return ReviewList(tuple(items), tuple(gone), tuple(tuple(place + 1 for place in group) for group in alike))


def _conflicts(items: Sequence[ExperienceItem]) -> list[list[int]]:
    """For every item, the indices of items that quote the same single sign with different text.

    A heuristic hint for the reviewer: finds "'H' is deadly" and "'H' is the goal", but also "'H' is a hole".
    """
    signs = [frozenset(_SIGNS.findall(item.text)) for item in items]
    return [
        [
            other
            for other in range(len(items))
            if other != place and len(signs[place]) == 1 and signs[other] == signs[place]
        ]
        for place in range(len(items))
    ]


def decision_of(round: Round) -> Decision | None:
    """The stored decision, or None."""
    return read_optional(round.path / DECISION, Decision)


def decide(round: Round, decision: Decision) -> None:
    """Stores a decision.

    Raises:
        ConfigError: an item number does not exist, or the round has already continued or ended.
        ArtifactError: the round's knowledge has not been accumulated.
    """
    count = len(review_list(round).items)
    wrong = sorted({number for number in decision.dropped if not 1 <= number <= count})
    if wrong:
        raise ConfigError(f"there is no item {', '.join(map(str, wrong))}: the numbers go from 1 to {count}")
    name = f"round {round.number} of {round.run.name}"
    if round.stage(REVIEW).finished:
        raise ConfigError(f"{name} has already continued with its reviewed knowledge: it is too late to decide")
    ended = outcome_of(round.run, round.number)
    if ended is not None:
        raise ConfigError(f"{name} is over ({ended.outcome}): it is too late to decide")
    write_atomic(round.path / DECISION, (decision.model_dump_json(indent=1) + "\n").encode())


def ask(round: Round) -> float:
    """Time of the round's first request for review, seconds since 1970; recorded on the first call."""
    path = round.path / ASKED
    if not path.exists():
        write_atomic(path, ReviewRequest(asked_at=time.time()).model_dump_json().encode())
    asked = read_record(path, ReviewRequest)
    return asked.asked_at
