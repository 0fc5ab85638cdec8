"""Conventions: the format in which a tool expects a value, which may differ from the request's "12.50" or "14 March
2026"."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, Literal

ValueType = Literal["case", "person", "thing", "money", "count", "text", "city", "date", "days", "name", "level"]
Argument = str | int
"""A value as a call carries it."""


@dataclass(frozen=True)
class Convention:
    """A format for values of one type."""

    name: str
    write: Callable[[Any], Argument]
    """Value of a request → argument of a call; an int where the tool takes an integer."""
    pattern: str = ""
    """Regular expression that a string argument must match whole."""

    @property
    def integer(self) -> bool:
        """Whether the argument is an integer."""
        return not self.pattern


_LETTER_AND_DIGITS = (
    Convention("as_is", str, r"[A-Z][0-9]+"),
    Convention("lower", str.lower, r"[a-z][0-9]+"),
    Convention("dashed", lambda code: f"{code[0]}-{code[1:]}", r"[A-Z]-[0-9]+"),
)
LEVELS: Final = ("low", "normal", "high")

CONVENTIONS: Final[dict[ValueType, tuple[Convention, ...]]] = {
    "case": _LETTER_AND_DIGITS,
    "thing": _LETTER_AND_DIGITS,
    "person": (
        Convention("as_is", str, r"[1-9][0-9]*"),
        Convention("prefixed", lambda number: f"u{number}", r"u[0-9]+"),
        Convention("padded", lambda number: f"00{number}", r"00[0-9]+"),
    ),
    "money": (
        Convention("cents", int),
        Convention("comma", lambda cents: f"{cents // 100},{cents % 100:02d}", r"[0-9]+,[0-9][0-9]"),
        Convention("currency", lambda cents: f"eur{cents // 100}.{cents % 100:02d}", r"eur[0-9]+\.[0-9][0-9]"),
    ),
    "count": (Convention("number", int),),
    "text": (Convention("as_is", str, r"(?s:.+)"),),
    "city": (
        Convention("lower", str.lower, r"[a-z]{4,}"),
        Convention("code", lambda city: city[:3].upper(), r"[A-Z]{3}"),
        Convention("lower_code", lambda city: city[:3].lower(), r"[a-z]{3}"),
    ),
    "date": (
        Convention("compact", lambda day: f"{day:%Y%m%d}", r"[0-9]{8}"),
        Convention("dotted", lambda day: f"{day:%d.%m.%Y}", r"[0-9][0-9]\.[0-9][0-9]\.[0-9]{4}"),
        Convention("month_first", lambda day: f"{day:%m/%d/%Y}", r"[0-9][0-9]/[0-9][0-9]/[0-9]{4}"),
    ),
    "days": (
        Convention("hours", lambda days: 24 * days),
        Convention("suffix", lambda days: f"{days}d", r"[0-9]+d"),
        Convention("iso", lambda days: f"P{days}D", r"P[0-9]+D"),
    ),
    "name": (
        Convention("lower", str.lower, r"[a-z]+"),
        Convention("upper", str.upper, r"[A-Z]+"),
        Convention("handle", lambda name: f"@{name.lower()}", r"@[a-z]+"),
    ),
    "level": (
        Convention("highest_is_1", lambda level: 3 - LEVELS.index(level)),
        Convention("highest_is_3", lambda level: 1 + LEVELS.index(level)),
        Convention("letters", lambda level: "cba"[LEVELS.index(level)], r"[abc]"),
    ),
}
"""Most contradict what one would write without knowing the tool."""


def spoken(type_: ValueType, value: Any) -> str:
    """A value as it appears in a request."""
    if type_ == "money":
        return f"{value // 100}.{value % 100:02d}"
    if type_ == "date":
        assert isinstance(value, date)
        return f"{value.day} {value:%B} {value.year}"
    return f"{value} days" if type_ == "days" else str(value)
