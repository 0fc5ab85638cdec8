"""Lists the runs under a root: progress, whether a process works on it, and size on disk."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from oel_core.errors import OelError
from oel_core.projects.triggers import TRIGGERS, open_round
from oel_core.runs.folder import CONFIG, RunFolder
from oel_core.runs.holders import holder_of
from oel_core.runs.stored.replica import fetch_listing
from oel_core.study.writing import PLAN
from oel_core.types import Record

PRESET = "preset.yaml"
"""A new project's configuration, written by `oel init` and read by the first trigger."""
Status = Literal["running", "new", "stopped", "finished", "damaged"]


class RunEntry(Record):
    """One folder under a root."""

    run: str
    kind: Literal["run", "project", "study"]
    """`project`: a run whose rounds are started by triggers."""
    status: Status
    """`stopped`: unfinished, and no process works on it. `damaged`: a file cannot be read."""
    rounds: int
    """Number of evaluated rounds, without the base model."""
    of: int | None
    """Number of requested rounds; None if there is none."""
    bytes: int
    """Size of its files; hard links count once."""
    changed: float
    """Time of the last change of a file, seconds since 1970, UTC."""


def list_runs(root: Path) -> list[RunEntry]:
    """All runs, projects and studies under a root, by name; of the working copy of a store those in the store.

    Raises:
        StoreError: the store does not answer.
    """
    sizes = fetch_listing(root)
    found = {path.parent for name in (CONFIG, PLAN, PRESET) for path in root.glob(f"*/{name}")}
    if sizes is None:
        return [entry_of(path) for path in sorted(found)]
    entries = [entry_of(path) for path in sorted(found) if path.name in sizes]
    return [entry.model_copy(update={"bytes": sizes[entry.run]}) for entry in entries]


def entry_of(path: Path) -> RunEntry:
    """The entry of one folder, without loading its contents."""
    run, sizes = RunFolder(path), list(_files(path))
    done = [index for index in run.rounds() if index and _is_done(run, index)]
    project = (path / TRIGGERS).is_dir() or (path / PRESET).is_file()
    kind: Literal["run", "project", "study"] = "project" if project else "run"
    if (path / PLAN).is_file():
        kind = "study"
    try:
        of = run.config().rounds if kind == "run" else None
        status = _status(run, kind, len(done), of)
    except OelError:
        of, status = None, "damaged"
    return RunEntry(
        run=run.name,
        kind=kind,
        status=status,
        rounds=len(done),
        of=of,
        bytes=sum({inode: size for inode, size, _ in sizes}.values()),
        changed=max((changed for _, _, changed in sizes if changed), default=path.stat().st_mtime),
    )


def _is_done(run: RunFolder, index: int) -> bool:
    """Whether a round was measured or, with a bundle, which has no environment, distilled."""
    return run.has(index, "evaluate/held_out") or (run.has(index, "receive") and run.has(index, "distill"))


def size_of(path: Path) -> int:
    """Bytes of all files in a folder; hard links count once."""
    return sum({inode: size for inode, size, _ in _files(path)}.values())


def _status(run: RunFolder, kind: str, done: int, of: int | None) -> Status:
    holder = holder_of(run)
    if holder is not None and holder.state == "alive":
        return "running"
    if kind == "study":
        return "finished" if (run.path / "study.json").is_file() else "stopped"
    if not run.rounds():
        return "new"
    half_done = any(run.path.glob("round_*/**/.*.partial"))
    unfinished = open_round(run) is not None if kind == "project" else of is not None and done < of
    return "stopped" if half_done or unfinished else "finished"


def _files(path: Path) -> Iterator[tuple[tuple[int, int], int, float]]:
    """(inode, bytes, time of the last change, 0 for hidden files); files that disappear meanwhile are left out."""
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                info = os.lstat(os.path.join(folder, name))
            except FileNotFoundError:
                continue
            shown = not name.startswith(".")  # locks change with every command
            yield (info.st_dev, info.st_ino), info.st_size, info.st_mtime if shown else 0.0
