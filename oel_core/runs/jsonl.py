"""Append-only JSONL of frozen records: one record a line, passed to the operating system before the next one starts.

A killed process leaves at most its last line incomplete, and a power failure loses at most the last `SYNC_SECONDS`. A
resumed stage removes an incomplete last line and repeats its record; in a finished file every bad line is an error that
names the file and the line.
"""

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from pydantic import ValidationError
from pydantic_core import from_json

from oel_core.errors import ArtifactError
from oel_core.text.invalid import first_problem
from oel_core.types import Record

SYNC_SECONDS = 0.5
"""Seconds between two flushes to the disk. A flush takes milliseconds, many times what writing a line takes."""

R = TypeVar("R", bound=Record)


class LineError(ValueError):
    """An invalid line: the field that is wrong (empty for the line itself) and the reason."""

    def __init__(self, field: str, reason: str) -> None:
        self.field, self.reason = field, reason
        super().__init__(f"{field}: {reason}" if field else reason)


def parse_line(line: bytes, kind: type[R]) -> R:
    """The record of one line. Types are strict: `"1"` is not a number.

    Raises:
        LineError: the line is not UTF-8, not JSON or not such a record.
    """
    try:
        return kind.model_validate_json(line, strict=True)
    except ValidationError as error:
        raise LineError(*first_problem(error)) from error


def _parse(kind: type[R], path: Path, number: int, line: bytes) -> R:
    try:
        return parse_line(line, kind)
    except LineError as error:
        raise _bad_line(path, number, f"is not a whole {kind.__name__} ({error})") from error


def _bad_line(path: Path, number: int, problem: str) -> ArtifactError:
    return ArtifactError(
        f"{path}, line {number} {problem}: restore the file from a copy, "
        "or delete its stage's folder and the stages after it, and run again"
    )


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield from file
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read ({error.strerror}): run the stage that writes it") from error


def read_jsonl(path: Path, kind: type[R]) -> Iterator[R]:
    """The records of a finished file, in order.

    Raises:
        ArtifactError: the file is missing, or a line is invalid or incomplete (named with its number from 1).
    """
    for number, line in enumerate(_lines(path), start=1):
        if not line.endswith(b"\n"):
            raise _bad_line(path, number, "is incomplete (no line end)")
        yield _parse(kind, path, number, line)


def whole_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file that another process may be appending to, with their ends; an incomplete one is left out."""
    with path.open("rb") as file:
        yield from (line for line in file if line.endswith(b"\n"))


def require_json_lines(path: Path) -> None:
    """Raises ArtifactError naming the first line that is incomplete or not JSON. Does not check the records."""
    for number, line in enumerate(_lines(path), start=1):
        try:
            from_json(line, allow_inf_nan=False)
        except ValueError as error:
            raise _bad_line(path, number, f"is not JSON ({error})") from error
        if not line.endswith(b"\n"):
            raise _bad_line(path, number, "is incomplete (no line end)")


def recover_jsonl(path: Path, kind: type[R]) -> list[R]:
    """The records of a killed stage's file; an incomplete last line is removed from the file.

    Raises:
        ArtifactError: an earlier line is corrupt, which a kill cannot cause.
    """
    if not path.exists():
        return []
    lines = list(_lines(path))
    if lines and not lines[-1].endswith(b"\n"):
        incomplete = lines.pop()
        os.truncate(path, path.stat().st_size - len(incomplete))
    return [_parse(kind, path, number, line) for number, line in enumerate(lines, start=1)]


class JsonlWriter:
    """Appends records. A context manager; only one writer per file at a time."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        self._synced = time.monotonic()

    def append(self, record: Record) -> None:
        """Writes one line that survives a kill; flushes to the disk only every `SYNC_SECONDS`."""
        self._file.write(record.model_dump_json().encode() + b"\n")
        self._file.flush()
        if time.monotonic() - self._synced >= SYNC_SECONDS:
            self._sync()

    def _sync(self) -> None:
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sync()
        self._file.close()


def jsonl_bytes(records: Iterable[Record]) -> bytes:
    """The content of a whole file, for records that are written atomically."""
    return b"".join(record.model_dump_json().encode() + b"\n" for record in records)
