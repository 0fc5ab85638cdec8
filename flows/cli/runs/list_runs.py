"""`oel runs` and `oel clean`: lists the contents of a run root and removes unneeded files."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli import complete
from flows.cli.shared import RUNS, AsJson, StoredRoot, err, out, print_json, print_table

if TYPE_CHECKING:
    from oel_core.housekeeping.cleaning import Leftover
    from oel_core.runs.folder import RunFolder

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def runs(root: StoredRoot = RUNS, as_json: AsJson = False) -> None:
    """List runs, projects and studies: status, rounds, size on disk, last change."""
    from oel_core.housekeeping.listing import list_runs

    found = list_runs(root)
    if as_json:
        print_json([one.model_dump(mode="json") for one in found])
        return
    if not found:
        out.print(f"no runs under {root}: oel run quickstart --root {root}", soft_wrap=True)
        return
    rows = [
        (
            one.run,
            one.kind,
            one.status,
            f"{one.rounds} of {one.of}" if one.of else str(one.rounds),
            size(one.bytes),
            time.strftime("%Y-%m-%d %H:%M", time.localtime(one.changed)),
        )
        for one in found
    ]
    print_table("", ("run", "kind", "status", "rounds", "size", "last change"), rows)


def clean(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN", help="Runs under --root; all if not given.", autocompletion=complete.run_names),
    ] = None,
    whole: Annotated[bool, typer.Option("--whole", help="Whole runs, with all of their files.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it; without this nothing is removed.")] = False,
    root: StoredRoot = RUNS,
    as_json: AsJson = False,
) -> None:
    """List what could be removed: partial stages, and weights that no later round starts from. With --yes remove it.

    Never touches a run that is in use, nor weights of present or former champions.
    """
    from oel_core.errors import BusyError, ConfigError

    if whole and not names:
        raise ConfigError("--whole needs the names of the runs that are to be removed")
    found: list[Leftover] = []
    for folder in _folders(root, names):
        try:
            found += _whole(folder, yes) if whole else _parts(folder, yes)
        except BusyError as error:
            if names:
                raise
            err.print(f"left alone: {error}", soft_wrap=True)
    _show(found, yes, as_json)


def _folders(root: Path, names: list[str] | None) -> "list[RunFolder]":
    from oel_core.errors import ConfigError
    from oel_core.housekeeping.listing import list_runs
    from oel_core.runs.folder import RunFolder
    from oel_core.study.writing import PLAN

    entries = {one.run: one for one in list_runs(root)}
    unknown = [name for name in names or () if name not in entries]
    if unknown:
        raise ConfigError(f"no run '{unknown[0]}' under {root}: there are {', '.join(entries) or 'none'}")
    wanted = [name for name in entries if not (root / name / PLAN).is_file()] if names is None else names
    return [RunFolder(root / name) for name in dict.fromkeys(wanted)]


def _parts(folder: "RunFolder", yes: bool) -> "list[Leftover]":
    from oel_core.housekeeping.cleaning import leftovers, remove

    with folder.leased("oel clean"):
        found = leftovers(folder, _kept(folder)[0])
        if yes:
            remove(folder, found)
        return found


def _whole(folder: "RunFolder", yes: bool) -> "list[Leftover]":
    from oel_core.errors import ConfigError
    from oel_core.housekeeping.cleaning import remove_run, whole

    with folder.leased("oel clean"):
        found = whole(folder)
        if _kept(folder)[1]:
            raise ConfigError(f"{folder.name} has a champion, which its registered model points to: it stays")
    if yes:
        remove_run(folder)
    return [found]


def _kept(folder: "RunFolder") -> tuple[set[int], bool]:
    """Rounds whose weights the registry names or once promoted, and whether one of them is the champion."""
    from flows.services.client import use_tracking
    from tasks.tracking.settings import load_settings

    settings = load_settings()
    if settings.registered_model is None or not (folder.path / "mlflow.json").exists():
        return set(), False
    use_tracking(folder.path.parent)
    from tasks.tracking.registry import registry_of

    registry = registry_of(load_settings(), folder)
    versions, moves = registry.versions(), registry.history()
    rounds = {one.version: one.round for one in versions}
    promoted = {name for move in moves for name in (move.champion, move.previous, move.replaced) if name}
    aliased = {one.version for one in versions if one.aliases}
    return {rounds[name] for name in promoted | aliased if name in rounds}, registry.champion() is not None


def _show(found: "list[Leftover]", removed: bool, as_json: bool) -> None:
    if as_json:
        print_json([{**one.model_dump(mode="json"), "removed": removed} for one in found])
        return
    if not found:
        out.print("There is nothing to remove.")
        return
    print_table(
        "", ("run", "what", "path", "size", "why"), [(o.run, o.kind, o.path, size(o.bytes), o.why) for o in found]
    )
    total = size(sum(one.bytes for one in found))
    out.print(f"{total} removed" if removed else f"{total} would be freed: the same command with --yes removes it")


def size(count: int) -> str:
    """Bytes in the largest unit of which there is at least one."""
    value, unit = float(count), 0
    while value >= 1024 and unit < len(UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.1f} {UNITS[unit]}" if unit else f"{count} B"
