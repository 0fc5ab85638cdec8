"""`oel report`: one self-contained HTML file about a run."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.shared import RUNS, AsJson, RunName, StoredRoot, echo, print_json


def report(
    run: RunName,
    out: Annotated[Path | None, typer.Option(help="Output file; report.html in the run's folder if not given.")] = None,
    root: StoredRoot = RUNS,
    as_json: AsJson = False,
) -> None:
    """Write a report on a run as one HTML file without scripts."""
    from oel_core.reporting import write_report
    from oel_core.runs.folder import find_run

    path = write_report(find_run(root, run), out)
    if as_json:
        print_json([{"report": str(path)}])
    else:
        echo(str(path))
