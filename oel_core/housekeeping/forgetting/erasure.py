"""Overwrites lines of JSONL files in place.

A replacement has the length of the line, so stored read offsets stay valid and concurrent appends are not lost. A
journal is written first and removed last; the next call completes one that was interrupted.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from oel_core.errors import ArtifactError
from oel_core.runs.files import sync_folder, write_atomic
from oel_core.runs.folder import MANIFEST
from oel_core.runs.jsonl import JsonlWriter, recover_jsonl
from oel_core.runs.manifest import digest_file, note_altered, read_optional
from oel_core.types import Record

JOURNAL, AUDIT = ".forgetting.json", "forgotten.log"


class Edit(Record):
    """A line and its replacement."""

    file: str
    """Path relative to the folder."""
    offset: int = Field(ge=0)
    bytes: int = Field(ge=0)
    """Length of the line without the line break."""
    text: str
    """JSON; padded with spaces to that length."""


class Forgotten(Record):
    """A line of the audit log `forgotten.log`; it does not identify the user."""

    at: float
    """Seconds since 1970, UTC."""
    episodes: int
    copies: int
    """Removed copies of quarantined lines."""
    files: tuple[str, ...]


class _Journal(Record):
    edits: tuple[Edit, ...]
    entry: Forgotten


def erase(folder: Path, edits: Sequence[Edit], episodes: int) -> None:
    """Overwrites the lines. Call it with the folder's lock held, after `finish`.

    Raises:
        ArtifactError: a replacement is longer than its line, or a file cannot be written.
    """
    if not edits:
        return
    for edit in edits:
        if len(edit.text.encode()) > edit.bytes:
            raise ArtifactError(
                f"{folder / edit.file}: the line at byte {edit.offset} has no room for what replaces it"
            )
    files = tuple(sorted({edit.file for edit in edits}))
    entry = Forgotten(at=time.time(), episodes=episodes, copies=len(edits) - episodes, files=files)
    write_atomic(folder / JOURNAL, _Journal(edits=tuple(edits), entry=entry).model_dump_json().encode())
    finish(folder)


def finish(folder: Path) -> None:
    """Completes an interrupted call, if there is one. The folder's lock must be held."""
    journal = read_optional(folder / JOURNAL, _Journal)
    if journal is None:
        return
    for name in journal.entry.files:
        _overwrite(folder / name, [edit for edit in journal.edits if edit.file == name])
    for stage in sorted({(folder / name).parent for name in journal.entry.files}):
        if (stage / MANIFEST).is_file():
            names = [Path(name).name for name in journal.entry.files if (folder / name).parent == stage]
            note_altered(stage, {name: digest_file(stage / name) for name in names})
    if journal.entry not in recover_jsonl(folder / AUDIT, Forgotten):
        with JsonlWriter(folder / AUDIT) as audit:
            audit.append(journal.entry)
    (folder / JOURNAL).unlink()
    sync_folder(folder)


def _overwrite(path: Path, edits: Sequence[Edit]) -> None:
    try:
        with path.open("r+b") as file:
            for edit in edits:
                file.seek(edit.offset)
                file.write(edit.text.encode().ljust(edit.bytes))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ArtifactError(
            f"{path} cannot be written ({error.strerror}): let this user write it and run the same command again"
        ) from error
