"""Finds and removes what a run does not need: partial stages, and weights that no later round starts from."""

import shutil
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from oel_core.errors import ConfigError
from oel_core.housekeeping.listing import size_of
from oel_core.models.checkpoints import adapter_base, is_adapter
from oel_core.rounds.context import CHECKPOINT
from oel_core.runs.folder import CONFIG, LEASE, LOCK, WEIGHTS, RunFolder, round_name
from oel_core.runs.manifest import Freed, record_freed
from oel_core.runs.round_start import last_begun, parent_of
from oel_core.runs.stored.replica import replica_of
from oel_core.study.writing import PLAN
from oel_core.types import Record


class Leftover(Record):
    """A removable folder or file."""

    run: str
    path: str
    """Relative to the run's folder."""
    kind: Literal["partial", "checkpoint", "run"]
    bytes: int
    why: str


def leftovers(run: RunFolder, kept: Collection[int]) -> list[Leftover]:
    """Everything that could be removed, partial stages first.

    Args:
        run: must not belong to a study, whose runs share files.
        kept: rounds whose weights must be kept: former champions and registered aliases.

    Raises:
        ConfigError: the run belongs to a study.
    """
    require_alone(run)
    found = [
        _leftover(run, path, "partial", "half done; that stage would begin anew")
        for path in sorted(run.path.glob("round_*/**/.*.partial"))
    ]
    for index in _superseded(run, kept):
        path = run.stage_path(index, "distill") / CHECKPOINT
        weights = sum(file.stat().st_size for file in _weights(path))
        why = f"no round starts from round {index} any more; it could be neither measured nor promoted again"
        found.append(_leftover(run, path, "checkpoint", why).model_copy(update={"bytes": weights}))
    return found


def require_alone(run: RunFolder) -> None:
    """Raises ConfigError for a run of a study."""
    if (run.path.parent.parent / PLAN).is_file():
        raise ConfigError(f"{run.path} belongs to a study, whose runs share files: clean the whole study, or nothing")


def remove(run: RunFolder, found: Sequence[Leftover]) -> None:
    """Removes the results of `leftovers`. Requires the lease, held since that call."""
    for one in found:
        path = run.path / one.path
        if one.kind == "partial":
            shutil.rmtree(path)
            continue
        stage = path.parent
        files = _weights(path)
        names = tuple(file.relative_to(stage).as_posix() for file in files)
        record_freed(stage, Freed(files=names, at=time.time()))
        for file in files:
            file.unlink()


def whole(run: RunFolder) -> Leftover:
    """The whole run as a leftover."""
    return Leftover(run=run.name, path=".", kind="run", bytes=size_of(run.path), why="the whole run")


def remove_run(run: RunFolder) -> None:
    """Removes a run's folder, and the run from its store; an interrupted removal can be repeated.

    Raises:
        BusyError: another process works on it.
        StoreError: the store does not answer; the folder is kept.
    """
    locks = {f".{LEASE}.lock", LOCK}
    with run.leased("oel clean"):
        if (replica := replica_of(run.path)) is not None:
            replica.remove()
        entries = [path for path in run.path.iterdir() if path.name not in {LEASE, *locks}]
        for path in sorted(entries, key=lambda path: path.name in (CONFIG, PLAN)):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    for name in locks:
        (run.path / name).unlink(missing_ok=True)
    with suppress(OSError):  # another process has created a run of that name meanwhile
        run.path.rmdir()


def _superseded(run: RunFolder, kept: Collection[int]) -> list[int]:
    """Rounds whose weights are not needed by an unfinished round, a registered alias or a remaining adapter."""
    finished = [index for index in run.rounds() if index and run.has(index, "evaluate/held_out")]
    last = last_begun(run)
    needed = {last, *kept} | {parent_of(run, index) for index in range(1, last + 1) if index not in finished}
    for index in sorted(needed - {0}, reverse=True):
        needed |= _bases(run, index)
    folders = {index: run.stage_path(index, "distill") / CHECKPOINT for index in finished if index not in needed}
    return [index for index, folder in folders.items() if _weights(folder)]


def _bases(run: RunFolder, index: int) -> set[int]:
    """Rounds of this run whose weights are the base of a round's adapter."""
    folder, found = run.stage_path(index, "distill") / CHECKPOINT, set[int]()
    while folder.is_dir() and is_adapter(folder):
        folder = Path(adapter_base(folder))
        on = [
            number for number in run.rounds() if (run.path / round_name(number)).resolve() in folder.resolve().parents
        ]
        found.update(on)
    return found


def _weights(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.suffix in WEIGHTS)


def _leftover(run: RunFolder, path: Path, kind: Literal["partial", "checkpoint"], why: str) -> Leftover:
    return Leftover(run=run.name, path=path.relative_to(run.path).as_posix(), kind=kind, bytes=size_of(path), why=why)
