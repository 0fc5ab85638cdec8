"""`oel forget`: removes recorded conversations, and lists the knowledge and models derived from them."""

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.shared import RUNS, AsJson, StoredRoot, out, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oel_core.housekeeping.forgetting.forget import Report
    from oel_core.housekeeping.forgetting.selection import Selection
    from oel_core.runs.folder import RunFolder
    from tasks.tracking.forgetting import InMlflow

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
    root: StoredRoot = RUNS,
    as_json: AsJson = False,
) -> None:
    """List recorded conversations of sessions or users, and what was learned from them. With --yes remove them.

    Removed are their episodes in inboxes and in the rounds of runs, what `oel serve` has not handed over yet, copies of
    lines that were left out, and transcripts and traces in MLflow. Knowledge, models, cases and bundles that rest on
    them are listed and stay.
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
    of_runs = [(run, forget_in_run(run, selection, remove=yes)) for run in runs]
    reports += [report for _, report in of_runs]
    tracked = [(run.name, _in_mlflow(run, report, selection, remove=yes)) for run, report in of_runs]
    if as_json:
        rows = [report.model_dump(mode="json") for report in reports]
        rows += [{"mlflow": name} | found.model_dump(mode="json") for name, found in tracked if found]
        print_json([{**row, "removed": yes} for row in rows])
    else:
        _show([report for report in reports if report.found], {name: found for name, found in tracked if found}, yes)


def _in_mlflow(run: "RunFolder", report: "Report", selection: "Selection", *, remove: bool) -> "InMlflow | None":
    """What MLflow has of them; None where the run is not tracked, or nothing can be there."""
    if not ((run.path / "mlflow.json").is_file() and (report.transcripts or run.config().serve.traces != "off")):
        return None
    from flows.services.client import use_tracking

    use_tracking(run.path.parent)
    from tasks.tracking.forgetting import forget_in_mlflow
    from tasks.tracking.settings import load_settings

    return forget_in_mlflow(load_settings(), run, report.transcripts, selection.ids, selection.before, remove=remove)


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


def _show(reports: "list[Report]", tracked: "dict[str, InMlflow]", removed: bool) -> None:
    if not reports and not any(found.traces for found in tracked.values()):
        out.print("There is no such conversation.")
        return
    columns = ("folder", "episodes", "not handed over", "copies", "without a time", "items learned", "models")
    rows = [
        (
            report.folder,
            str(report.episodes),
            str(report.open),
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
    for line in [*_staying(reports), *_in_tracking(tracked)]:
        out.print(line, soft_wrap=True)
    out.print("Removed." if removed else "Nothing is removed: the same command with --yes removes it.")


def _staying(reports: "list[Report]") -> "Iterator[str]":
    """What has to be done by hand, if it is wanted."""
    if any(report.items or report.models for report in reports):
        yield "Models and items stay, and so do knowledge files in MLflow. A round from another model replaces them."
    for report in reports:
        for one in report.cases:
            folder = f"{report.folder}/round_{one.round:02d}"
            yield (
                f"{len(one.ids)} case(s) of round {one.round} stay, and later rounds leave them out. To remove them, "
                f"delete {folder}/cases.jsonl and {folder}/evaluate: the round has no figures then"
            )
        for bundle in report.bundles:
            yield f"Bundle {bundle} was made of a round that has them: delete it, here and wherever it was sent"


def _in_tracking(tracked: "dict[str, InMlflow]") -> "Iterator[str]":
    for name, found in tracked.items():
        if found.transcripts or found.traces:
            yield f"MLflow has of {name}: {found.traces} trace(s), {len(found.transcripts)} transcript(s)"
        yield from (f"  {path}" for path in found.transcripts)
