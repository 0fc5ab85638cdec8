"""`oel study`: the paper's comparisons on any preset."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.runs.interrupt import leaving_at_once
from flows.cli.runs.live import live_progress
from flows.cli.shared import RUNS, AsJson, Overrides, PresetName, Root, err, out, print_json, print_table
from oel_core.study.arms import ARMS

if TYPE_CHECKING:
    from oel_core.runs.folder import RunFolder
    from oel_core.study.results import StudyResult


Varied = Annotated[
    list[str] | None,
    typer.Option(metavar="FIELD=VALUE", help="One more arm: these settings, separated by spaces; repeatable."),
]


def study(
    preset: PresetName = "quickstart",
    seeds: Annotated[int, typer.Option(min=1, help="Loop seeds, from the preset's `seed` on.")] = 3,
    arms: Annotated[str | None, typer.Option(help=f"Comma-separated; all if not given: {', '.join(ARMS)}.")] = None,
    rounds: Annotated[int | None, typer.Option(help="Rounds of the arm `own`; the preset's if not given.")] = None,
    foreign: Annotated[
        str | None, typer.Option(help="Model whose knowledge the arm `foreign` uses: folder, hub id, or round:2.")
    ] = None,
    vary: Varied = None,
    overrides: Overrides = None,
    name: Annotated[str | None, typer.Option(help="Name of the study; study-PRESET if not given.")] = None,
    root: Root = RUNS,
    as_json: AsJson = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show Prefect's own log.")] = False,
) -> None:
    """Compare training methods with several loop seeds, or resume the study of that name."""
    from flows.local import start_temporary_server, use_local_services, wait_until_ready
    from oel_core.study.plan import make_plan

    chosen = [part.strip() for part in arms.split(",") if part.strip()] if arms is not None else None
    plan = make_plan(preset, overrides or (), seeds=seeds, arms=chosen, rounds=rounds, foreign=foreign, vary=vary or ())
    folder = _prepare(root, name or f"study-{Path(preset).stem}")
    use_local_services(root, verbose=verbose)
    with leaving_at_once(folder, exit_code=1), live_progress(err) as progress:
        progress("start Prefect and MLflow", 0, 0)
        start_temporary_server(root)
        from flows.recovery.abandoned import tagged_with_process
        from flows.study import study as run_study

        wait_until_ready()
        with tagged_with_process():
            result = run_study(plan, folder.name, root)
    _show(result, folder.path, as_json)
    for run, why in sorted(result.failed.items()):
        err.print(f"{run}: {why}", style="red", markup=False, highlight=False, soft_wrap=True)
    if result.failed:
        raise typer.Exit(1)


def _prepare(root: Path, name: str) -> "RunFolder":
    """Validates before the services start."""
    from oel_core.runs.folder import open_run
    from oel_core.study.writing import require_study
    from tasks.tracking.settings import load_settings

    load_settings()
    require_study(root / name)
    return open_run(root, name)


def _show(result: "StudyResult", folder: Path, as_json: bool) -> None:
    from oel_core.runs.folder import RunFolder
    from oel_core.study.arms import comparisons_with
    from oel_core.study.tables import all_rows, summary_cells, summary_columns
    from oel_core.study.writing import JSON, PAGE
    from tasks.tracking.client import LOOP, tracked_run

    tables = all_rows(result)
    if as_json:
        print_json(
            [{"comparison": name} | row.model_dump(mode="json") for name, rows in tables.items() for row in rows]
        )
        return
    titles = {one.name: one.title for one in comparisons_with(result.varied)} | {"rounds": "Rounds"}
    for name, rows in tables.items():
        print_table(titles[name], summary_columns(), [summary_cells(row) for row in rows])
    run = tracked_run(RunFolder(folder)).runs.get(LOOP, "")
    for label, where in (
        ("Study", folder / PAGE),
        ("Figures", folder / JSON),
        ("Plots", f"{folder}/plots/*.svg"),
        ("Runs", f"{folder}/runs/seed-*"),
        ("MLflow run", f"{run}, with a child for each run"),
    ):
        out.print(f"{label:<12} {where}", highlight=False, soft_wrap=True)
