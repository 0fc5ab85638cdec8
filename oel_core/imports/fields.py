"""Values of a foreign JSON document, taken in the types that a format says they have."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import from_json

from oel_core.runs.jsonl import LineError


def mapping(value: Any, field: str) -> Mapping[str, Any]:
    """A JSON object, which may itself be written as JSON text. Raises LineError."""
    value = decoded(value)
    if not isinstance(value, Mapping):
        raise LineError(field, "it is no JSON object")
    return value


def sequence(value: Any, field: str) -> Sequence[Any]:
    """A JSON array, which may itself be written as JSON text; nothing for null. Raises LineError."""
    value = decoded(value)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise LineError(field, "it is no JSON array")
    return value


def decoded(value: Any) -> Any:
    """The document within JSON text; any other value, and text that is no object or array, as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return from_json(value, allow_inf_nan=False)
        except ValueError:
            return value
    return value


def text(value: Any) -> str:
    """A value as text: strings as they are, nothing for null, anything else as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def count(value: Any) -> int:
    """A number of tokens; 0 where it is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def number(value: Any) -> float | None:
    """A finite number, true and false as 1 and 0; None where it is none."""
    if not isinstance(value, (int, float)):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def first(record: Mapping[str, Any], *names: str) -> Any:
    """The value of the first of these fields that is there and neither null nor empty; None without one."""
    return next((record[name] for name in names if record.get(name) not in (None, "", [], {})), None)
