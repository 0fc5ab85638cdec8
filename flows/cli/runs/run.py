"""`oel run` and `oel rounds`: executes the learning loop and shows its results."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.runs.dry_run import show_cautions, show_needs
from flows.cli.runs.interrupt import leaving_at_once
from flows.cli.runs.live import live_progress
from flows.cli.shared import RUNS, AsJson, Overrides, PresetName, RunName, StoredRoot, err, out, print_json, print_table

if TYPE_CHECKING:
    from oel_core.config.run import OelConfig
    from oel_core.rounds.summary import RoundSummary
    from oel_core.runs.folder import RunFolder

MLFLOW_UI = "http://127.0.0.1:5000"
"""Where `mlflow ui` listens."""


def run(
    preset: PresetName = "quickstart",
    rounds: Annotated[int | None, typer.Option(help="Total number of rounds; a larger number resumes.")] = None,
    overrides: Overrides = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Bundle of `oel bundle make` to distil for one round, without an environment.")
    ] = None,
    bundle_digest: Annotated[str | None, typer.Option(help="Expected digest of the bundle.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run; the preset's name if not given.")] = None,
    root: StoredRoot = RUNS,
    as_json: AsJson = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show Prefect's own log.")] = False,
    dry: Annotated[bool, typer.Option("--dry-run", help="Only list requirements, and which are missing.")] = False,
) -> None:
    """Run the learning loop, or resume the run of that name."""
    from flows.local import start_temporary_server, use_local_services, wait_until_ready
    from flows.pages.time_left import RoundTime
    from oel_core.config.run import load_config

    extra = [f"rounds={rounds}"] if rounds is not None else []
    config = load_config(preset, [*_settings_of(bundle, bundle_digest), *(overrides or ()), *extra])
    if dry:
        show_needs(preset, config, root, as_json)
        return
    folder = _prepare(root, name or Path(preset).stem, config)
    use_local_services(root, verbose=verbose)
    with leaving_at_once(folder, exit_code=1), live_progress(err, RoundTime(folder)) as progress:
        progress("start Prefect and MLflow", 0, 0)
        start_temporary_server(root)
        from flows.learning_loop import learning_loop
        from flows.recovery.abandoned import tagged_with_process

        wait_until_ready()
        with tagged_with_process():
            rows = learning_loop(config, folder.name, root)
    _show(rows, as_json)
    if not as_json:
        where(folder)


def _settings_of(bundle: Path | None, digest: str | None) -> list[str]:
    """Overrides for a round that distils a bundle; whatever needs an environment is disabled."""
    from oel_core.bundles.reading import Bundle
    from oel_core.errors import ConfigError

    if bundle is None:
        if digest is not None:
            raise ConfigError("--bundle-digest says what a bundle must be: name it with --bundle")
        return []
    found = Bundle.open(bundle, digest)
    return [
        "rounds=1",
        "knowledge.source.use=extracted",
        "knowledge.selection.use=all",
        "knowledge.saturation.every=null",
        "experience.inbox=null",
        f"collect.replicas={found.manifest.replicas}",
        f"experience.bundle={bundle.resolve()}",
        f"experience.bundle_digest={found.digest}",
    ]


def _prepare(root: Path, name: str, config: "OelConfig") -> "RunFolder":
    """Validates before the services start."""
    from oel_core.errors import ConfigError
    from oel_core.preflight.caution import find_cautions
    from oel_core.preflight.check import check
    from oel_core.runs.folder import adopt_config, open_run
    from oel_core.runs.stored.working_copy import store_url
    from oel_core.study.writing import require_run
    from tasks.tracking.settings import load_settings

    load_settings()
    if store_url(root) is not None and config.review.mode == "required":
        raise ConfigError(
            "review.mode is required, but `oel review` needs a folder as --root: use one for this run too"
        )
    if store_url(root) is not None and config.distill.nodes > 1:
        raise ConfigError(
            f"distill.nodes is {config.distill.nodes}: the nodes share the folder of the running stage, which for a "
            "store is on this machine only. Use a folder of a shared file system as --root"
        )
    require_run(root / name)
    folder = open_run(root, name)
    check(config)
    show_cautions(find_cautions(config))
    with folder.leased("oel run, before it starts"):
        adopt_config(folder, config)
    return folder


def rounds(
    run: RunName,
    root: StoredRoot = RUNS,
    as_json: AsJson = False,
) -> None:
    """Show the results of every round of a run; round 0 is the base model."""
    from oel_core.rounds.summary import summarise_run
    from oel_core.runs.folder import find_run

    _show(summarise_run(find_run(root, run)), as_json)


def _show(rows: "Sequence[RoundSummary]", as_json: bool) -> None:
    from flows.pages.round import cells, columns

    if as_json:
        print_json([row.model_dump(mode="json") for row in rows])
    else:
        print_table("", columns(rows), [cells(row, rows) for row in rows])


def where(folder: "RunFolder") -> None:
    """Prints the paths of a run."""
    from flows.services.links import all_runs, mlflow_server
    from oel_core.config.urls import without_secrets
    from oel_core.runs.stored.working_copy import store_url
    from tasks.tracking.settings import load_settings

    root = folder.path.parent
    store = store_url(root)
    settings = load_settings().resolved(root, folder.name)
    server = mlflow_server(root, settings)
    if store is not None:
        out.print(f"Store        {store}/{folder.name}", highlight=False, soft_wrap=True)
    out.print(f"Run folder   {folder.path}", highlight=False, soft_wrap=True)
    out.print(f"Knowledge    {folder.path}/round_*/accumulate/knowledge_*.md", highlight=False, soft_wrap=True)
    out.print(f"Report       {folder.path / 'report.html'}", highlight=False, soft_wrap=True)
    if server is None:
        uri = without_secrets(settings.tracking_uri)
        out.print(f"MLflow       mlflow ui --backend-store-uri {uri}", highlight=False, soft_wrap=True)
    out.print(f"Runs         {all_runs(root, server or MLFLOW_UI)}", highlight=False, soft_wrap=True)
