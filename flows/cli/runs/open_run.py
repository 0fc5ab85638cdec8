"""`oel open`: opens a run's report, MLflow page or Prefect page in a browser."""

import sys
import webbrowser
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.shared import RUNS, AsJson, Root, RunName, out, print_json

if TYPE_CHECKING:
    from oel_core.runs.folder import RunFolder


class Page(StrEnum):
    """Pages of a run."""

    report = "report"
    mlflow = "mlflow"
    prefect = "prefect"


def open_page(
    run: RunName,
    page: Annotated[Page, typer.Option(help="The report, or the page in MLflow or Prefect.")] = Page.report,
    show: Annotated[bool, typer.Option("--print", help="Only print the address; default without a terminal.")] = False,
    root: Root = RUNS,
    as_json: AsJson = False,
) -> None:
    """Open a run's report or its page in MLflow or Prefect, and print its address."""
    from oel_core.runs.folder import find_run

    folder = find_run(root, run)
    place = _place(folder, page)
    if as_json:
        print_json([{"run": folder.name, "page": page.value, "place": place}])
        return
    out.print(place, soft_wrap=True)
    if not show and sys.stdout.isatty():
        webbrowser.open(place if "://" in place else Path(place).as_uri())


def _place(folder: "RunFolder", page: Page) -> str:
    """An address, or the path of the report.

    Raises:
        ConfigError: there is no such page; the message names the steps to get one.
    """
    from oel_core.errors import ConfigError

    if page is Page.prefect:
        return _prefect_page(folder)
    if page is Page.mlflow:
        return _mlflow_page(folder)
    path = folder.path / "report.html"
    if not path.is_file():
        raise ConfigError(f"{folder.name} has no report yet: `oel report {folder.name}` writes one")
    return str(path.resolve())


def _mlflow_page(folder: "RunFolder") -> str:
    from flows.services.client import use_tracking
    from flows.services.links import all_runs, mlflow_server
    from oel_core.errors import ConfigError
    from tasks.tracking.settings import load_settings

    root = folder.path.parent
    use_tracking(root)
    server = mlflow_server(root, load_settings().resolved(root, folder.name))
    if server is None:
        raise ConfigError(f"no MLflow server runs for {root}: `oel up --root {root}`")
    return all_runs(root, server)


def _prefect_page(folder: "RunFolder") -> str:
    from flows.recovery.abandoned import NOTE, NotedFlowRun
    from flows.services.process import find, runs
    from flows.services.servers import PREFECT, read_settings
    from oel_core.errors import ConfigError
    from oel_core.runs.manifest import read_optional

    root = folder.path.parent.resolve()
    noted, settings, server = read_optional(folder.path / NOTE, NotedFlowRun), read_settings(root), find(root, PREFECT)
    if noted is None:
        raise ConfigError(f"no flow run has worked on {folder.name} yet")
    if settings is None or server is None or not runs(server):
        raise ConfigError(f"no Prefect server runs for {root}: `oel up --root {root}`")
    return f"{settings.prefect_url}/runs/flow-run/{noted.flow_run_id}"
