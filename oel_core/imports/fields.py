"""Type-checked access to values of a foreign JSON document."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic_core import from_json

from oel_core.runs.jsonl import LineError


def mapping(value: Any, field: str) -> Mapping[str, Any]:
    """A JSON object, possibly encoded as JSON text. Raises LineError."""
    value = decoded(value)
    if not isinstance(value, Mapping):
        raise LineError(field, "it is no JSON object")
    return value


def sequence(value: Any, field: str) -> Sequence[Any]:
    """A JSON array, possibly encoded as JSON text; empty for null. Raises LineError."""
    value = decoded(value)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise LineError(field, "it is no JSON array")
    return value


def decoded(value: Any) -> Any:
    """The object or array encoded as JSON text; any other value unchanged."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return from_json(value, allow_inf_nan=False)
        except ValueError:
            return value
    return value


def text(value: Any) -> str:
    """A value as text: strings unchanged, empty for null, anything else as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def count(value: Any) -> int:
    """A number of tokens; 0 if the value is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def number(value: Any) -> float | None:
    """A finite number, booleans as 1 and 0; None if the value is no number."""
    if not isinstance(value, (int, float)):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def first(record: Mapping[str, Any], *names: str) -> Any:
    """The value of the first of these fields that is neither null nor empty; None if there is none."""
    return next((record[name] for name in names if record.get(name) not in (None, "", [], {})), None)


_LARGEST = 253402300799  # the last second of the year 9999
_FRACTION = re.compile(r"(\.\d{1,6})\d*")


def moment(value: Any) -> float | None:
    """A time as seconds since 1970, UTC; None if the value is no time.

    ISO 8601 (UTC if it has no offset), or a number (possibly as text) of seconds, milliseconds, microseconds or
    nanoseconds, distinguished by its size.
    """
    if isinstance(value, str) and not re.fullmatch(r"\d{1,20}(\.\d{1,9})?", value):
        try:
            found = datetime.fromisoformat(_FRACTION.sub(r"\1", value[:64]))
            seconds: float | None = (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            return None
    else:
        seconds = None if isinstance(value, bool) else number(float(value) if isinstance(value, str) else value)
    if seconds is None or seconds <= 0:  # 0 is how formats write that they do not know
        return None
    for _ in range(3):
        if seconds > _LARGEST:
            seconds /= 1000
    return seconds if seconds <= _LARGEST else None
