"""Kinds of request: their topics, slots and wordings.

Of the six wordings of a kind the first three are for training, the fourth for validation, the last two held out.
"""

from dataclasses import dataclass
from typing import Final, Literal

from oel_core.envs.tools.conventions import ValueType

Role = Literal["case", "person", "thing"]
"""Kinds of entities: in a shop these are orders, customers and items."""

SLOT_TYPES: Final[dict[str, ValueType]] = {
    "case": "case",
    "person": "person",
    "thing": "thing",
    "amount": "money",
    "price": "money",
    "count": "count",
    "text": "text",
    "source": "city",
    "target": "city",
    "city": "city",
    "date": "date",
    "days": "days",
    "agent": "name",
    "level": "level",
}


@dataclass(frozen=True)
class Kind:
    """One kind of request."""

    name: str
    noun: Role
    slots: tuple[str, ...]
    """In the usual order of a call."""
    wordings: tuple[str, str, str, str, str, str]
    """Imperatives with slots; `{cases}` and `{things}` are the plural words."""
    confirmed: bool = False
    """Whether the call needs a confirmation."""


KINDS: Final[tuple[Kind, ...]] = (
    Kind(
        "close",
        "case",
        ("case",),
        (
            *("close {case}", "finish {case}", "mark {case} as done"),
            *("complete {case}", "get {case} closed", "wrap {case} up"),
        ),
        confirmed=True,
    ),
    Kind(
        "refund",
        "case",
        ("case", "amount"),
        (
            *("refund {amount} on {case}", "pay {amount} back for {case}", "give {amount} back on {case}"),
            *("return {amount} for {case}", "send {amount} back for {case}", "reimburse {amount} on {case}"),
        ),
    ),
    Kind(
        "list",
        "case",
        ("person", "count"),
        (
            *("show the last {count} {cases} of {person}", "list the last {count} {cases} of {person}"),
            *("find the newest {count} {cases} of {person}", "print the latest {count} {cases} of {person}"),
            *("look up the {count} most recent {cases} of {person}", "bring up the last {count} {cases} of {person}"),
        ),
    ),
    Kind(
        "block",
        "person",
        ("person",),
        (
            *("block {person}", "lock {person} out", "suspend {person}"),
            *("deny access to {person}", "keep {person} from logging in", "disable {person}"),
        ),
        confirmed=True,
    ),
    Kind(
        "note",
        "case",
        ("case", "text"),
        (
            *("note '{text}' on {case}", "add the note '{text}' to {case}", "write '{text}' on {case}"),
            *("attach the note '{text}' to {case}", "leave the note '{text}' on {case}"),
            "put the remark '{text}' on {case}",
        ),
    ),
    Kind(
        "price",
        "thing",
        ("thing", "price"),
        (
            *("set the price of {thing} to {price}", "change the price of {thing} to {price}"),
            *("price {thing} at {price}", "make {thing} cost {price}"),
            *("let {thing} cost {price}", "update the price of {thing} to {price}"),
        ),
    ),
    Kind(
        "move",
        "thing",
        ("thing", "source", "target"),
        (
            *("move {thing} from {source} to {target}", "send {thing} from {source} to {target}"),
            *("bring {thing} from {source} to {target}", "transfer {thing} from {source} to {target}"),
            *("ship {thing} to {target} from {source}", "relocate {thing} from {source} to {target}"),
        ),
    ),
    Kind(
        "count",
        "thing",
        ("city",),
        (
            *("count the {things} in {city}", "say how many {things} are in {city}"),
            *("tell me the number of {things} in {city}", "check how many {things} are in {city}"),
            *("find out how many {things} {city} has", "report the number of {things} in {city}"),
        ),
    ),
    Kind(
        "due",
        "case",
        ("case", "date"),
        (
            *("set the deadline of {case} to {date}", "make {case} due on {date}"),
            *("change the due date of {case} to {date}", "put the deadline of {case} on {date}"),
            *("schedule {case} for {date}", "plan {case} for {date}"),
        ),
    ),
    Kind(
        "extend",
        "case",
        ("case", "days"),
        (
            *("extend {case} by {days}", "give {case} {days} more", "prolong {case} by {days}"),
            *("lengthen {case} by {days}", "allow {days} more for {case}", "push {case} back by {days}"),
        ),
    ),
    Kind(
        "assign",
        "case",
        ("case", "agent"),
        (
            *("assign {case} to {agent}", "give {case} to {agent}", "let {agent} handle {case}"),
            *("hand {case} over to {agent}", "make {agent} responsible for {case}", "put {agent} in charge of {case}"),
        ),
    ),
    Kind(
        "level",
        "case",
        ("case", "level"),
        (
            *("set the priority of {case} to {level}", "make {case} {level} priority"),
            *("change the priority of {case} to {level}", "give {case} {level} priority"),
            *("treat {case} with {level} priority", "file {case} under {level} priority"),
        ),
    ),
)
