"""Slot values, sampled so that no number, city, name or text occurs in two shares."""

import random
from datetime import date
from typing import Any, Final

from oel_core.envs.shares import Share
from oel_core.envs.tools.conventions import LEVELS, ValueType

_LAST_DIGITS: Final[dict[Share, str]] = {"train": "0124689", "validation": "5", "held_out": "37"}
"""Of a number that belongs to the share."""
_CITIES: Final[dict[Share, str]] = {
    "train": "Oslo Lima Paris Berlin Madrid Tokyo Quito Dublin Vienna Prague Sydney Havana",
    "validation": "Athens Zurich Nairobi",
    "held_out": "Lisbon Warsaw Cairo Boston Hanoi",
}
_NAMES: Final[dict[Share, str]] = {
    "train": "Maria Peter Ines Tom Yuki Carl Nora Omar Lena Igor Rosa Hugo",
    "validation": "Alma Felix Dina",
    "held_out": "Sara Viktor Greta Jonas Mila",
}
_TEXTS: Final[dict[Share, tuple[str, ...]]] = {
    "train": (
        *(
            "call back",
            "paid in cash",
            "wrong address",
            "needs a receipt",
            "speaks French only",
            "asked for a discount",
        ),
        *("damaged on arrival", "see the second page", "double entry", "open at noon"),
    ),
    "validation": ("signature missing", "ask the manager", "left at the door"),
    "held_out": ("prefers email", "ring twice", "box was empty", "waiting for spare parts", "parcel is with the guard"),
}
_CODE_LETTERS: Final = "ABDEFHKLMRT"


def draw_value(type_: ValueType, share: Share, rng: random.Random) -> Any:
    """A value: money in cents, `days` in days, a date as `datetime.date`, else text or a number."""
    match type_:
        case "case":
            return f"{rng.choice(_CODE_LETTERS)}{_number(100, 999, share, rng)}"
        case "thing":
            return f"{rng.choice(_CODE_LETTERS)}{_number(10, 99, share, rng)}"
        case "person":
            return str(_number(1000, 9999, share, rng))
        case "money":
            return 100 * _number(2, 99, share, rng) + rng.randrange(5, 100, 5)
        case "count":
            return _number(3, 40, share, rng)
        case "days":
            return _number(2, 20, share, rng)
        case "date":
            return date.fromordinal(_number(date(2026, 1, 1).toordinal(), date(2027, 12, 31).toordinal(), share, rng))
        case "city":
            return rng.choice(_CITIES[share].split())
        case "name":
            return rng.choice(_NAMES[share].split())
        case "text":
            return rng.choice(_TEXTS[share])
        case "level":  # too few to be split
            return rng.choice(LEVELS)


def _number(lowest: int, highest: int, share: Share, rng: random.Random) -> int:
    while True:
        number = rng.randint(lowest, highest)
        if str(number)[-1] in _LAST_DIGITS[share]:
            return number
