"""What becomes of an item over rounds: episodes support it or contradict it, and it is served or retired.

The evidence for an item is the number of episodes in which it was found, where a round counts a quarter of the next
one: rules change, so recent episodes say more. Items with the same subject and different statements are rivals. An item
is retired when a round has episodes for a rival and none for it, and the rival's evidence is more than twice its own;
until then both are served, since there may be two ways to do one thing. A retired item returns when episodes show it
again. So a rule that is reversed is retired in that round, if two thirds as many episodes contradict it as showed it in
each round before, or else in the next; an item that one episode made up is retired by the next round.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

from pydantic import Field

from oel_core.knowledge.contradictions import sides
from oel_core.knowledge.hygiene.alike import Alike
from oel_core.knowledge.hygiene.text import without_marker
from oel_core.knowledge.store import item_key
from oel_core.types import ExperienceItem, Record

ITEM_RECORDS = "item_records.jsonl"
FADING = 0.25
"""What a round's evidence counts one round later."""
OUTWEIGHED = 2.0
"""How many times an item's own evidence a rival has to have to retire it."""
FORGOTTEN = 0.01
"""Evidence below which a retired item is no longer carried along; its record stays in the rounds' files."""
SAME = 0.7
"""Jaccard similarity of word pairs from which two wordings are one item."""


class State(StrEnum):
    """What the evidence says of an item."""

    CANDIDATE = "candidate"
    """Found in one episode."""
    SUPPORTED = "supported"
    """Found in several."""
    DISPUTED = "disputed"
    """A rival has evidence of the same order."""
    RETIRED = "retired"
    """Contradicted: it is not served."""


class ItemRecord(Record):
    """A line of `item_records.jsonl`: an item at the end of a round."""

    item: ExperienceItem
    """As it was first found."""
    since: int = Field(ge=1)
    """The round in which it was first found."""
    last: int = Field(ge=1)
    """The last round in which it was found."""
    support: int = Field(ge=0)
    """Episodes in which it was found."""
    contradictions: int = Field(ge=0)
    """Episodes in which a rival was found and it was not."""
    evidence: float = Field(ge=0)
    """Episodes in which it was found, each round counting a quarter of the next."""
    state: State
    why: str
    found_in: tuple[str, ...] = ()
    """This round's episodes with it."""
    contradicted_in: tuple[str, ...] = ()
    """This round's episodes with a rival and without it."""
    wordings: tuple[str, ...] = ()
    """Other texts of the same meaning, which became one item with it."""

    value: float | None = Field(default=None, exclude_if=lambda value: value is None)
    """Pass rate of the previous round's files with it minus that of the others; None: not measured, or not clear."""

    @property
    def served(self) -> bool:
        return self.state is not State.RETIRED


Found = Mapping[str, tuple[ExperienceItem, frozenset[str]]]
"""`item_key` → an item of this round, and the episodes in which it was found."""


def collect(found: Iterable[tuple[ExperienceItem, Iterable[str]]]) -> Found:
    """Items with their episodes of this round, over all replicas; equal texts become one."""
    items: dict[str, ExperienceItem] = {}
    episodes = defaultdict[str, set[str]](set)
    for item, sources in found:
        key = item_key(item.text)
        items.setdefault(key, item)
        episodes[key].update(sources)
    return {key: (item, frozenset(episodes[key])) for key, item in items.items() if episodes[key]}


def adopt(records: Sequence[ItemRecord], items: Iterable[ExperienceItem]) -> list[ItemRecord]:
    """The records, and new ones for items without one: from rounds before revision was on, or written by a reviewer."""
    known = {item_key(text) for record in records for text in (record.item.text, *record.wordings)}
    added: dict[str, ItemRecord] = {}
    for item in items:
        key = item_key(item.text)
        if key not in known:
            begun = {"support": item.support, "evidence": float(item.support)}
            added.setdefault(key, _new(item, item.round).model_copy(update=begun))
    return [*records, *added.values()]


def revise(before: Sequence[ItemRecord], found: Found, round_index: int) -> list[ItemRecord]:
    """The records after a round: those of the round before, then new ones in the order in which they were found."""
    known = [record for record in before if record.served or record.evidence >= FORGOTTEN]
    aged = [
        record.model_copy(
            update={"evidence": record.evidence * FADING, "found_in": (), "contradicted_in": (), "value": None}
        )
        for record in known
    ]
    records = _with_found(aged, found, round_index)
    groups = defaultdict[str, list[ItemRecord]](list)
    for record in records:
        if two := sides(record.item.text):
            groups[two[0]].append(record)
    return [_judged(record, _rivals(record, groups)) for record in records]


def _with_found(records: list[ItemRecord], found: Found, round_index: int) -> list[ItemRecord]:
    """Adds this round's evidence to the records it is about; what is said for the first time begins a record."""
    place = {item_key(text): at for at, record in enumerate(records) for text in (record.item.text, *record.wordings)}
    same = _SameItems()
    for number, record in enumerate(records):
        same.add(number, record.item.text)
    for key, (item, episodes) in found.items():
        at = place.get(key)
        if at is None:
            at = same.first(item.text)
        if at is None:
            at = len(records)
            same.add(at, item.text)
            records.append(_new(item, round_index))
        place[key] = at
        records[at] = _found(records[at], item.text, episodes, round_index)
    return records


class _SameItems:
    """Finds the first record of an item in other words: with its subject and statement, or a near-duplicate."""

    def __init__(self) -> None:
        self._by_sides = dict[tuple[str, str], int]()
        self._alike = Alike(SAME)

    def add(self, number: int, text: str) -> None:
        two = sides(text)
        if two is None:
            self._alike.add(number, text)
        else:
            self._by_sides.setdefault(two, number)

    def first(self, text: str) -> int | None:
        two = sides(text)
        return self._alike.first(text) if two is None else self._by_sides.get(two)


def _new(item: ExperienceItem, round_index: int) -> ItemRecord:
    return ItemRecord(
        item=item,
        since=round_index,
        last=round_index,
        support=0,
        contradictions=0,
        evidence=0.0,
        state=State.CANDIDATE,
        why="",
    )


def _found(record: ItemRecord, text: str, episodes: frozenset[str], round_index: int) -> ItemRecord:
    new = episodes - set(record.found_in)
    other = () if item_key(text) == item_key(record.item.text) else (text,)
    return record.model_copy(
        update={
            "last": round_index,
            "support": record.support + len(new),
            "evidence": record.evidence + len(new),
            "found_in": (*record.found_in, *sorted(new)),
            "wordings": tuple(dict.fromkeys((*record.wordings, *other))),
        }
    )


def _rivals(record: ItemRecord, groups: Mapping[str, Sequence[ItemRecord]]) -> list[ItemRecord]:
    """The items with the same subject and another statement, the strongest first."""
    two = sides(record.item.text)
    same = groups[two[0]] if two else ()
    return sorted((one for one in same if one is not record), key=lambda one: -one.evidence)


def _judged(record: ItemRecord, rivals: Sequence[ItemRecord]) -> ItemRecord:
    """The record with this round's contradictions and its state."""
    against = {id for rival in rivals for id in rival.found_in} - set(record.found_in)
    state, why = _state(record, rivals)
    return record.model_copy(
        update={
            "contradictions": record.contradictions + len(against),
            "contradicted_in": tuple(sorted(against)),
            "state": state,
            "why": why,
        }
    )


def _state(record: ItemRecord, rivals: Sequence[ItemRecord]) -> tuple[State, str]:
    best = rivals[0] if rivals else None
    outweighed = best is not None and best.evidence > OUTWEIGHED * record.evidence and not record.found_in
    if best is not None and outweighed and (best.found_in or not record.served):
        return (
            State.RETIRED,
            f"outweighed {best.evidence:.1f} to {record.evidence:.1f} by: {without_marker(best.item.text)}",
        )
    if best is not None and best.evidence * OUTWEIGHED >= record.evidence:
        return State.DISPUTED, f"{record.evidence:.1f} to {best.evidence:.1f} against: {without_marker(best.item.text)}"
    if record.support > 1:
        return State.SUPPORTED, f"found in {record.support} episodes"
    return State.CANDIDATE, "found in one episode"
