"""Lines of JSONL files overwritten in their places.

A replacement is as long as the line: the offsets that rounds have read to stay true, and whoever appends to the file
meanwhile loses nothing. The journal is written first and removed last, so that a kill on the way is made good by the
next call.
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
    """A line and what is written in its place."""

    file: str
    """Below the folder."""
    offset: int = Field(ge=0)
    bytes: int = Field(ge=0)
    """Length of the line without its end."""
    text: str
    """JSON, filled up with spaces to that length."""


class Forgotten(Record):
    """A line of `forgotten.log`: what was removed from a folder, without saying whose it was."""

    at: float
    """Seconds since 1970, UTC."""
    episodes: int
    copies: int
    """Copies of lines that had been left out."""
    files: tuple[str, ...]


class _Journal(Record):
    edits: tuple[Edit, ...]
    said: Forgotten


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
    said = Forgotten(at=time.time(), episodes=episodes, copies=len(edits) - episodes, files=files)
    write_atomic(folder / JOURNAL, _Journal(edits=tuple(edits), said=said).model_dump_json().encode())
    finish(folder)


def finish(folder: Path) -> None:
    """Completes what a killed call began; nothing where there is nothing. The folder's lock has to be held."""
    journal = read_optional(folder / JOURNAL, _Journal)
    if journal is None:
        return
    for name in journal.said.files:
        _overwrite(folder / name, [edit for edit in journal.edits if edit.file == name])
    for stage in sorted({(folder / name).parent for name in journal.said.files}):
        if (stage / MANIFEST).is_file():
            names = [Path(name).name for name in journal.said.files if (folder / name).parent == stage]
            note_altered(stage, {name: digest_file(stage / name) for name in names})
    if journal.said not in recover_jsonl(folder / AUDIT, Forgotten):
        with JsonlWriter(folder / AUDIT) as audit:
            audit.append(journal.said)
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
