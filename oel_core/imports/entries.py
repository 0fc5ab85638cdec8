"""Reads the entries of log files: lines of JSONL, elements of a JSON array, or a whole JSON document."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic_core import from_json

from oel_core.errors import ArtifactError
from oel_core.imports.records import GroupedLines, Line
from oel_core.runs.jsonl import LineError

SUFFIXES = (".jsonl", ".ndjson", ".json")
_MARK = b"\xef\xbb\xbf"
"""Byte order mark, which some editors put before UTF-8."""


class Entry(NamedTuple):
    """One entry and its position."""

    file: str
    """Path relative to the source."""
    line: int
    """From 1; within a JSON array the position of the element."""
    raw: bytes
    read: int
    """Bytes of the file read so far."""
    whole: Any = None
    """Its value, if the surrounding document has already been parsed."""
    lines: int = 1
    """Number of its lines or elements."""

    def value(self) -> Any:
        """The parsed entry. Raises LineError if it is not UTF-8 or not JSON."""
        if self.whole is not None:
            return self.whole
        try:
            return from_json(self.raw, allow_inf_nan=False)
        except ValueError as error:
            raise LineError("", f"not JSON: {str(error).partition(' at line 1 column ')[0]}") from error


def files_of(source: Path) -> list[Path]:
    """The file itself, or all logs in a folder and its subfolders, sorted by name.

    Raises:
        ArtifactError: there is no such file, or the folder has no logs.
    """
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise ArtifactError(f"{source} is neither a file nor a folder: give the log, or a folder of logs")
    found = sorted(path for path in source.rglob("*") if path.suffix in SUFFIXES and path.is_file())
    if not found:
        raise ArtifactError(f"{source} has no logs: files of a log end in {', '.join(SUFFIXES)}")
    return found


def entries(path: Path, source: Path) -> Iterator[Entry]:
    """The entries of a file. A `.json` document is read as a whole, JSONL line by line.

    Raises:
        ArtifactError: the file cannot be read.
    """
    name = path.name if path == source else path.relative_to(source).as_posix()
    name = name.encode(errors="backslashreplace").decode()
    try:
        if path.suffix == ".json":
            yield from _document(path.read_bytes().removeprefix(_MARK), name)
            return
        read = 0
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                read += len(line)
                raw = (line.removeprefix(_MARK) if number == 1 else line).strip()
                if raw:
                    yield Entry(name, number, raw, read)
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read ({error.strerror}): let this user read it") from error


def grouped(path: Path, source: Path, form: GroupedLines) -> Iterator[Entry]:
    """The entries of a file whose lines are parts of conversations; a line that is not JSON is a separate entry.

    Raises:
        ArtifactError: the file cannot be read.
    """
    lines: list[Line] = []
    last = None
    for last in entries(path, source):
        try:
            lines.append((last.line, last.value()))
        except LineError:
            yield last
    if last is not None and lines:
        for group in form.groups(lines):
            yield Entry(last.file, group[0][0], b"", last.read, [value for _, value in group], len(group))


def _document(data: bytes, name: str) -> Iterator[Entry]:
    """The document; None if it is not JSON (it may be JSONL with another suffix)."""
    try:
        whole = from_json(data, allow_inf_nan=False)
    except ValueError:
        lines = enumerate(data.splitlines(), start=1)
        yield from (Entry(name, number, line.strip(), len(data)) for number, line in lines if line.strip())
        return
    for number, element in enumerate(whole if isinstance(whole, list) else [whole], start=1):
        yield Entry(name, number, b"", len(data), element)
