"""Which outputs of a finished stage were removed on purpose, so that nobody takes them for lost."""

from pathlib import Path

from oel_core.runs.files import write_atomic
from oel_core.runs.manifest import read_if_there
from oel_core.types import Record

FREED = "freed.json"


class Freed(Record):
    """`freed.json` in a stage's folder."""

    files: tuple[str, ...]
    """Outputs that `oel clean` removed, relative to the folder."""
    at: float
    """Seconds since 1970, UTC."""


def freed_files(folder: Path) -> tuple[str, ...]:
    """Outputs of the stage in `folder` that were removed on purpose."""
    found: Freed | None = read_if_there(folder / FREED, Freed)
    return () if found is None else found.files


def note_freed(folder: Path, freed: Freed) -> None:
    """Says what is about to be removed. Call it first: a kill after it leaves files that nobody misses."""
    write_atomic(folder / FREED, freed.model_dump_json(indent=1).encode())
