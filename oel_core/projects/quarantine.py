"""Quarantine for unusable lines of an inbox: position, reason, and a copy of each, for repair.

The copies are in `<inbox>/refused/`, one file per offset at which a project continued reading. The inbox's own files
are never changed. Lines are untrusted: they are stored unchanged here and escaped where they are displayed.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import Field

from oel_core.errors import ArtifactError
from oel_core.runs.files import write_atomic
from oel_core.runs.jsonl import jsonl_bytes
from oel_core.types import Record

REFUSED = "refused"
REASONS_SHOWN, PLACES_SHOWN = 20, 3


class LeftOut(Record):
    """A line of an inbox that is not used."""

    file: str
    """Name within the inbox."""
    line: int = Field(ge=1)
    field: str
    """Dotted path of the invalid field; empty for the whole line."""
    reason: str
    text: str = ""
    """The unchanged line; bytes that are not UTF-8 as `\\\\xff`."""

    @property
    def problem(self) -> str:
        return f"{self.field}: {self.reason}" if self.field else self.reason


def left_out_lines(left_out: Iterable[LeftOut]) -> list[str]:
    """One line per problem, most frequent first, with the number of lines and the positions of the first ones."""
    places: dict[str, list[str]] = {}
    for one in left_out:
        places.setdefault(one.problem, []).append(f"{one.file} line {one.line}")
    ranked = sorted(places.items(), key=lambda entry: -len(entry[1]))
    lines = [f"{_count(found)} left out, {problem} ({_first(found)})" for problem, found in ranked[:REASONS_SHOWN]]
    others = sum(len(found) for _, found in ranked[REASONS_SHOWN:])
    return (
        [*lines, f"{others} more lines left out for {len(ranked) - REASONS_SHOWN} other reasons"] if others else lines
    )


def _count(places: Sequence[str]) -> str:
    return f"{len(places)} line{'s' if len(places) > 1 else ''}"


def _first(places: Sequence[str]) -> str:
    return ", ".join(places[:PLACES_SHOWN]) + (", ..." if len(places) > PLACES_SHOWN else "")


def quarantine(inbox: Path, name: str, left_out: Sequence[LeftOut]) -> None:
    """Writes the lines to `<inbox>/refused/<name>.jsonl`, replacing those of an earlier read from the same offset.

    Raises:
        ArtifactError: the folder cannot be written.
    """
    if not left_out:
        return
    path = inbox / REFUSED / f"{name}.jsonl"
    try:
        write_atomic(path, jsonl_bytes(left_out))
    except OSError as error:
        raise ArtifactError(
            f"{path} cannot be written ({error.strerror}): the lines of the inbox that cannot be used are kept there. "
            f"Let the worker write {inbox / REFUSED}"
        ) from error
