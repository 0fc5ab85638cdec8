"""Example logs with private data planted in one field after the other."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.imports.reading import log_of

PERSON = "Annika Beispiel"
SECRETS = ("kim.planted@example.org", "sk-plantedplantedplanted12")
PLANTED = f"{PERSON} {' '.join(SECRETS)}"

Place = tuple[str, ...]
"""Names of fields from the outside in; positions in lists do not count."""


def planted_logs(format: str, folder: Path) -> Iterator[Path]:
    """Copies of the format's example log, each with `PLANTED` in another one of the fields that hold text."""
    source = log_of(format)
    whole = source.suffix == ".json"
    text = source.read_text()
    documents = [json.loads(text)] if whole else [json.loads(line) for line in text.splitlines() if _is_json(line)]
    for number, place in enumerate(sorted({place for each in documents for place in _places(each)})):
        changed = [_changed(each, place, lambda text: f"{text} {PLANTED}") for each in documents]
        target = folder / f"{number:03d}{source.suffix}"
        target.write_text("".join(json.dumps(each) + "\n" for each in changed))
        yield target


def leaks(text: str) -> list[str]:
    """What of the planted data is in a text, in any spelling of capitals."""
    return [one for one in (*SECRETS, PERSON, *PERSON.split()) if one.casefold() in text.casefold()]


def _is_json(line: str) -> bool:
    try:
        return isinstance(json.loads(line), (dict, list))
    except ValueError:
        return False


def _within(text: str) -> Any:
    """The JSON that a text is, or None."""
    return json.loads(text) if text[:1] in "{[" and _is_json(text) else None


def _places(value: Any, at: Place = ()) -> Iterator[Place]:
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _places(each, (*at, name))
    elif isinstance(value, list):
        for each in value:
            yield from _places(each, at)
    elif isinstance(value, str):
        inner = _within(value)
        if inner is None:
            yield at
        else:
            yield from _places(inner, at)


def _changed(value: Any, place: Place, plant: Callable[[str], str], at: Place = ()) -> Any:
    if isinstance(value, dict):
        return {name: _changed(each, place, plant, (*at, name)) for name, each in value.items()}
    if isinstance(value, list):
        return [_changed(each, place, plant, at) for each in value]
    if not isinstance(value, str):
        return value
    inner = _within(value)
    if inner is not None:
        return json.dumps(_changed(inner, place, plant, at))
    return plant(value) if at == place else value
