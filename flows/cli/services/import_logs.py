"""`oel import`: logs of a deployed agent as episodes of an inbox."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from flows.cli.shared import AsJson, err, out, print_json, print_table
from oel_core.imports.privacy import Privacy
from oel_core.plugins.builtin import LOG_FORMATS

if TYPE_CHECKING:
    from oel_core.imports.importing import Imported, OnProgress

LOCAL: Final = "local"
Workers = Annotated[
    int, typer.Option(min=1, help="Processes that mask the sessions; more than one needs Ray (extra ray).")
]
RayAddress = Annotated[
    str,
    typer.Option(
        "--ray", metavar="ADDRESS", help="Ray cluster of the workers: host:port, auto, or local for one of its own."
    ),
]


def import_(
    format: Annotated[str, typer.Argument(metavar="FROM", help=f"Format: {', '.join(LOG_FORMATS.names())}.")],
    path: Annotated[Path, typer.Argument(help="The log, or a folder of logs (.jsonl, .ndjson, .json).")],
    into: Annotated[Path, typer.Option("--into", help="Folder of the inbox; created if missing.")],
    env: Annotated[
        str, typer.Option("--env", help="The project's environment.name; recorded is that of projects without a game.")
    ] = "recorded",
    privacy: Annotated[
        Privacy, typer.Option(help="Secrets and personal data: replace by pseudonyms, drop the session, or keep.")
    ] = Privacy.MASK,
    pii: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Also detect names of people and places: a spaCy model for Presidio (extra pii)."
        ),
    ] = None,
    names: Annotated[Path | None, typer.Option("--names", help="Text file with names to mask, one per line.")] = None,
    workers: Workers = 1,
    ray: RayAddress = LOCAL,
    top_score: Annotated[float, typer.Option(help="The log's best score, such as 5 for five stars.")] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Turn the logs of a deployed agent into episodes of an inbox; each entry is imported only once."""
    from oel_core.config.serving import RunnerConfig
    from oel_core.errors import ConfigError
    from oel_core.imports.importing import Import, import_logs

    if not 0 < top_score < float("inf"):
        raise ConfigError(f"--top-score is {top_score}: the best score is a number above 0")
    runner = RunnerConfig(use="local" if (workers, ray) == (1, LOCAL) else "ray", address=ray, workers=workers)
    with _progress() as on_progress:
        done = import_logs(Import(format, path, into, env, privacy, top_score, names, pii, runner), on_progress)
    if as_json:
        print_json([vars(done)])
    else:
        _print(done, into)


def _print(done: "Imported", inbox: Path) -> None:
    print_table("", ("", "count"), _rows(done))
    if done.file is not None:
        out.print(f"New file     {inbox / done.file}", soft_wrap=True)
    if done.left_out:
        out.print(f"Left out     {inbox / 'refused'} has a copy of each entry with the reason", soft_wrap=True)


def _rows(done: "Imported") -> list[tuple[str, str]]:
    apart = {
        "feedback logged apart from the answer": done.ratings,
        "feedback about what this log does not have": done.unmatched,
    }
    return [
        ("entries read", str(done.entries)),
        ("calls in them", str(done.calls)),
        *((what, str(number)) for what, number in apart.items() if number),
        ("episodes imported", str(done.episodes)),
        ("calls imported, each a turn", str(done.turns)),
        *((f"calls dropped: {reason}", str(number)) for reason, number in done.dropped.items()),
        *((f"entries left out: {reason}", str(number)) for reason, number in done.left_out.items()),
    ]


@contextmanager
def _progress() -> Iterator["OnProgress"]:
    """A progress bar on a terminal, otherwise nothing."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task("", total=None)

        def on_progress(doing: str, done: int, total: int) -> None:
            progress.update(
                task, description=f"{doing} {done if not total else ''}", completed=done, total=total or None
            )

        yield on_progress
