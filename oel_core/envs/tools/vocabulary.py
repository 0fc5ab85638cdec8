"""Words of requests, which are common, and the words that tools use instead, which have to be learnt.

No word of a tool occurs in a request of its theme.
"""

from dataclasses import dataclass
from typing import Final

from oel_core.envs.tools.kinds import Role


@dataclass(frozen=True)
class Theme:
    """The subject of a tool."""

    programs: tuple[str, ...]
    spoken: dict[Role, str]
    """Singular word in requests; its plural takes an s."""
    nouns: dict[Role, tuple[str, ...]]
    """Words that tools use for it."""


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
"""Kind of request → words that tools use for it."""

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
"""Slot → names that tools use for its option or parameter."""

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
"""Slot → the obvious name; tools reject it as deprecated."""

CONFIRMATIONS: Final = ("now", "sure", "commit", "really")
FORMER_CONFIRMATION: Final = "yes"
