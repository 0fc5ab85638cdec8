"""`oel forget`: removes recorded conversations, and lists the knowledge and models derived from them."""

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.shared import RUNS, AsJson, Root, out, print_json, print_table

if TYPE_CHECKING:
    from oel_core.housekeeping.forgetting.forget import Report
    from oel_core.runs.folder import RunFolder

_DAY_S = 86400.0


def forget(
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID", help="Ids of sessions or users, as in the logs."),
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option(metavar="DAYS", help="Only conversations older than this, like 90d; without ids: of all users."),
    ] = None,
    inbox: Annotated[list[Path] | None, typer.Option(help="An inbox, besides those of the runs under --root.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove them; without this nothing is removed.")] = False,
    root: Root = RUNS,
    as_json: AsJson = False,
) -> None:
    """List recorded conversations of sessions or users, and what was learned from them. With --yes remove them.

    Removes their episodes from inboxes and rounds, and quarantined copies of their lines. Knowledge and models derived
    from them are listed and kept.
    """
    from oel_core.errors import ConfigError
    from oel_core.housekeeping.forgetting.forget import forget_in_inbox, forget_in_run
    from oel_core.housekeeping.forgetting.selection import Selection

    if not (any(ids or ()) or older_than):
        raise ConfigError("oel forget needs the id of a session or a person, or --older-than")
    runs = _runs(root)
    inboxes = _inboxes(inbox or [], runs)
    selection = Selection.of(ids or (), _before(older_than), inboxes)
    reports = [forget_in_inbox(folder, selection, remove=yes) for folder in inboxes]
    reports += [forget_in_run(run, selection, remove=yes) for run in runs]
    if as_json:
        print_json([{**report.model_dump(mode="json"), "removed": yes} for report in reports])
    else:
        _show([report for report in reports if report.episodes or report.copies or report.undated], yes)


def _before(older_than: str | None) -> float | None:
    from oel_core.errors import ConfigError

    if older_than is None:
        return None
    days = re.fullmatch(r"([0-9]{1,5})d?", older_than)
    if days is None:
        raise ConfigError(f"--older-than is '{older_than}': give a number of days, like 90d")
    return time.time() - int(days[1]) * _DAY_S


def _runs(root: Path) -> "list[RunFolder]":
    from oel_core.housekeeping.listing import list_runs
    from oel_core.runs.folder import CONFIG, RunFolder

    return [RunFolder(root / one.run) for one in list_runs(root) if (root / one.run / CONFIG).is_file()]


def _inboxes(named: list[Path], runs: "list[RunFolder]") -> list[Path]:
    """The named ones and those of the runs, each once."""
    own = [Path(inbox) for run in runs if (inbox := run.config().experience.inbox) is not None]
    found = {path.resolve(): path for path in [*named, *(path for path in own if path.is_dir())]}
    return list(found.values())


def _show(reports: "list[Report]", removed: bool) -> None:
    if not reports:
        out.print("There is no such conversation.")
        return
    columns = ("folder", "episodes", "lines left out", "without a time", "items learned", "models")
    rows = [
        (
            report.folder,
            str(report.episodes),
            str(report.copies),
            str(report.undated),
            str(len(report.items)),
            ", ".join(f"round {index}" for index in report.models) or "none",
        )
        for report in reports
    ]
    print_table("", columns, rows)
    for report in reports:
        for item in report.items:
            out.print(f"{report.folder}/{item.file} item {item.item}: {item.text.strip()}", soft_wrap=True)
    if any(report.models for report in reports):
        out.print("Models and items stay. So do copies in MLflow: transcripts of these rounds, and knowledge files.")
    out.print("Removed." if removed else "Nothing is removed: the same command with --yes removes it.")
