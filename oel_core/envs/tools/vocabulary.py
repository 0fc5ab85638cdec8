"""Words: those of requests, which everybody knows, and those that tools use instead, which are to be learnt.

No word that a tool may use occurs in a request of its theme.
"""

from dataclasses import dataclass
from typing import Final

from oel_core.envs.tools.kinds import Role


@dataclass(frozen=True)
class Theme:
    """What a tool is about."""

    programs: tuple[str, ...]
    spoken: dict[Role, str]
    """Singular word of requests; its plural takes an s."""
    nouns: dict[Role, tuple[str, ...]]
    """What tools call them."""


THEMES: Final = (
    Theme(
        programs=("shop", "store", "mart"),
        spoken={"case": "order", "person": "customer", "thing": "item"},
        nouns={
            "case": ("sales", "tickets", "deals", "carts"),
            "person": ("people", "buyers", "accounts", "clients"),
            "thing": ("goods", "wares", "articles", "units"),
        },
    ),
    Theme(
        programs=("rent", "motor", "garage"),
        spoken={"case": "rental", "person": "driver", "thing": "vehicle"},
        nouns={
            "case": ("hires", "trips", "contracts", "leases"),
            "person": ("pilots", "members", "users", "licences"),
            "thing": ("fleet", "wheels", "cars", "assets"),
        },
    ),
    Theme(
        programs=("clinic", "medic", "ward"),
        spoken={"case": "visit", "person": "patient", "thing": "device"},
        nouns={
            "case": ("sessions", "stays", "charts", "entries"),
            "person": ("folk", "persons", "records", "guests"),
            "thing": ("gear", "kit", "machines", "props"),
        },
    ),
    Theme(
        programs=("lib", "desk", "reading"),
        spoken={"case": "loan", "person": "reader", "thing": "book"},
        nouns={
            "case": ("lendings", "issues", "checkouts", "borrows"),
            "person": ("cards", "patrons", "holders", "badges"),
            "thing": ("titles", "volumes", "copies", "shelf"),
        },
    ),
)

VERBS: Final[dict[str, tuple[str, ...]]] = {
    "close": ("end", "seal", "settle", "retire"),
    "refund": ("credit", "rebate", "revert", "redeem"),
    "list": ("browse", "query", "dump", "fetch"),
    "block": ("stop", "bar", "freeze", "ban"),
    "note": ("memo", "jot", "annotate", "tack"),
    "price": ("tag", "appraise", "value", "rate"),
    "move": ("shift", "haul", "route", "swap"),
    "count": ("tally", "sum", "census", "total"),
    "due": ("slot", "fix", "pin", "clock"),
    "extend": ("stretch", "renew", "grow", "pad"),
    "assign": ("entrust", "delegate", "pass", "staff"),
    "level": ("grade", "weigh", "sort", "bump"),
}
"""Kind of request → what tools call it."""

OPTIONS: Final[dict[str, tuple[str, ...]]] = {
    "case": ("ref", "key", "num", "docket"),
    "person": ("who", "acc", "whom", "uid"),
    "thing": ("which", "code", "sku", "piece"),
    "amount": ("net", "gross", "worth", "fee"),
    "price": ("sell", "fee", "worth", "tariff"),
    "count": ("max", "top", "rows", "first"),
    "text": ("msg", "body", "words", "content"),
    "source": ("src", "origin", "begin", "off"),
    "target": ("dst", "into", "goal", "dest"),
    "city": ("site", "place", "hub", "zone"),
    "date": ("day", "when", "until", "stamp"),
    "days": ("plus", "span", "time", "extra"),
    "agent": ("owner", "staff", "clerk", "keeper"),
    "level": ("prio", "rank", "urgency", "class"),
}
"""Slot → what tools call its option or parameter."""

FORMER_OPTIONS: Final[dict[str, str]] = {
    "case": "id",
    "person": "user",
    "thing": "item",
    "amount": "amount",
    "price": "price",
    "count": "limit",
    "text": "text",
    "source": "from",
    "target": "to",
    "city": "city",
    "date": "date",
    "days": "days",
    "agent": "agent",
    "level": "priority",
}
"""Slot → the name that one would guess; tools know it, and refuse it as deprecated."""

CONFIRMATIONS: Final = ("now", "sure", "commit", "really")
FORMER_CONFIRMATION: Final = "yes"
