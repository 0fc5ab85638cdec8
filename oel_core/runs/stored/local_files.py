"""The files of a run folder that its index in the store lists, and what of its stages is not there on purpose."""

import os
from collections.abc import Iterator
from pathlib import Path

from oel_core.runs.manifest import (
    MANIFEST,
    WEIGHTS,
    Manifest,
    OutputFile,
    altered_files,
    digest_file,
    freed_files,
    read_record,
)

LEASE = "lease.json"
"""In a run folder: the lease among the processes that share the folder. It is not replicated, nor are hidden files and
folders, which include locks and partial stages."""


def file_of(path: Path) -> OutputFile:
    """Size and digest of a file."""
    return OutputFile(bytes=path.stat().st_size, digest=digest_file(path))


def indexed_files(run: Path) -> dict[str, OutputFile]:
    """All files of a run folder except the unchanged outputs of its finished stages; path relative to it → file."""
    return {path.relative_to(run).as_posix(): file_of(path) for path in _walk(run, frozenset())}


def stage_outputs(folder: Path, manifest: Manifest, *, weights: bool) -> dict[str, OutputFile]:
    """The outputs that a finished stage's folder must have: path in the folder → size and current digest.

    `weights`: False leaves weights out.
    """
    freed, altered = freed_files(folder), altered_files(folder)
    return {
        name: OutputFile(bytes=file.bytes, digest=altered.get(name, file.digest))
        for name, file in manifest.outputs.items()
        if name not in freed and (weights or Path(name).suffix not in WEIGHTS)
    }


def freed_outputs(run: Path) -> list[str]:
    """Outputs that were removed on purpose, relative to the run folder."""
    return [
        f"{folder.relative_to(run).as_posix()}/{name}"
        for folder in sorted(path.parent for path in run.glob(f"round_*/**/{MANIFEST}"))
        for name in freed_files(folder)
        if not (folder / name).exists()
    ]


def _walk(folder: Path, known: frozenset[Path]) -> Iterator[Path]:
    """Files of a folder without those in `known`, the unchanged outputs of the stage around it."""
    if (folder / MANIFEST).is_file():
        manifest, altered = read_record(folder / MANIFEST, Manifest), altered_files(folder)
        known = frozenset(folder / name for name in manifest.outputs if name not in altered)
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path = Path(entry.path)
        if entry.name.startswith(".") or entry.is_symlink() or path in known:
            continue
        if entry.is_dir():
            yield from _walk(path, known)
        elif entry.name != LEASE:
            yield path
