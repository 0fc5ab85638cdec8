"""`oel gather`: runs a project's next round up to its knowledge, without training."""

from typing import Annotated
from uuid import uuid4

import typer

from flows.cli import complete
from flows.cli.runs.interrupt import leaving_at_once
from flows.cli.runs.live import live_progress
from flows.cli.shared import PRESET_HELP, RUNS, AsJson, Overrides, Root, err, out, print_json


def gather(
    project: Annotated[str, typer.Argument(metavar="PROJECT", help="Name of the project, a folder under --root.")],
    preset: Annotated[
        str | None,
        typer.Option(help=f"{PRESET_HELP} In place of the project's settings.", autocompletion=complete.presets),
    ] = None,
    overrides: Overrides = None,
    root: Root = RUNS,
    as_json: AsJson = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show Prefect's own log.")] = False,
) -> None:
    """Collect experience and extract a round's knowledge, without training."""
    from flows.local import start_temporary_server, use_local_services, wait_until_ready
    from flows.pages.time_left import RoundTime
    from oel_core.projects.settings import RequestedSettings
    from oel_core.runs.folder import open_run
    from tasks.tracking.settings import load_settings

    load_settings()
    folder = open_run(root, project)
    use_local_services(root, verbose=verbose)
    with leaving_at_once(folder, exit_code=1), live_progress(err, RoundTime(folder)) as progress:
        progress("start Prefect and MLflow", 0, 0)
        start_temporary_server(root)
        from flows.gather_knowledge import gather_knowledge
        from flows.recovery.abandoned import tagged_with_process

        wait_until_ready()
        requested = RequestedSettings(preset=preset, overrides=tuple(overrides or ()))
        with tagged_with_process():
            found = gather_knowledge(requested, project, f"gather-{uuid4().hex[:8]}", root)
    if as_json:
        print_json([found.model_dump(mode="json")])
    elif found.round is None:
        out.print(f"No round: {found.detail}", soft_wrap=True)
    else:
        out.print(f"Knowledge    {folder.path}/round_{found.round:02d}/accumulate/knowledge_*.md", soft_wrap=True)
        out.print(f"Next         oel bundle make {project} --out {project}.zip", soft_wrap=True)
