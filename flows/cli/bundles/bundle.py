"""`oel bundle`: exports a round's knowledge and prompts to another machine and imports its training result."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.help import example
from flows.cli.shared import RUNS, AsJson, Root, RunName, out, print_json

if TYPE_CHECKING:
    from oel_core.bundles.reading import Bundle

app = typer.Typer(help="Export a round's knowledge and prompts for training on another machine.", no_args_is_help=True)
Number = Annotated[int | None, typer.Option("--round", min=1, help="Round; the newest if not given.")]


@app.command("make", epilog=example("oel bundle make lake --out lake.zip"))
def make(
    run: RunName,
    path: Annotated[Path, typer.Option("--out", help="The archive, a new .zip file.")],
    round_index: Number = None,
    knowledge_only: Annotated[
        bool, typer.Option("--knowledge-only", help="No prompts: the other machine generates them from the knowledge.")
    ] = False,
    names: Annotated[Path | None, typer.Option("--names", help="Text file with names to mask, one per line.")] = None,
    root: Root = RUNS,
    as_json: AsJson = False,
) -> None:
    """Export a round's knowledge and prompts for training on another machine, without episodes and private data."""
    from oel_core.bundles.making import make_bundle
    from oel_core.imports.privacy import read_names
    from oel_core.rounds.round import Round
    from oel_core.runs.folder import find_run
    from oel_core.runs.round_start import last_begun

    folder = find_run(root, run)
    round = Round(folder.config(), folder, round_index or max(1, last_begun(folder)))
    bundle = make_bundle(round, path, knowledge_only=knowledge_only, names=read_names(names))
    _show(bundle, as_json)
    if not as_json:
        out.print(f"Train on it  oel run PRESET --bundle {path} --bundle-digest {bundle.digest}", soft_wrap=True)


@app.command("show", epilog=example("oel bundle show lake.zip"))
def show(path: Annotated[Path, typer.Argument(help="The archive.")], as_json: AsJson = False) -> None:
    """Verify a bundle and describe its content."""
    from oel_core.bundles.reading import Bundle

    bundle = Bundle.open(path)
    bundle.knowledge()
    for _ in bundle.prompts():
        pass  # read for its checks
    _show(bundle, as_json)


@app.command("adopt", epilog=example("oel bundle adopt lake from-server/round_01/distill"))
def adopt(
    run: RunName,
    folder: Annotated[Path, typer.Argument(help="The distill folder of the other machine's run.")],
    round_index: Number = None,
    root: Root = RUNS,
    as_json: AsJson = False,
) -> None:
    """Import another machine's distillation of a round's bundle; the round continues with its evaluation."""
    from oel_core.rounds.round import Round
    from oel_core.runs.folder import find_run
    from oel_core.runs.round_start import last_begun
    from oel_core.stages.exchange.adopt import adopt as take_over

    found = find_run(root, run)
    round = Round(found.config(), found, round_index or max(1, last_begun(found)))
    with found.leased("oel bundle adopt"):
        take_over(round, folder)
    if as_json:
        print_json([{"run": found.name, "round": round.number, "checkpoint": round.model()}])
        return
    out.print(f"Checkpoint   {round.model()}", soft_wrap=True)
    out.print(f"Next         oel trigger next-round --set project={found.name}", soft_wrap=True)


def _show(bundle: "Bundle", as_json: bool) -> None:
    from oel_core.bundles.description import describe

    if as_json:
        print_json([{"path": str(bundle.path), "digest": bundle.digest} | bundle.manifest.model_dump(mode="json")])
        return
    for paragraph in describe(bundle.manifest):
        out.print(paragraph)
    out.print(f"Bundle       {bundle.path}", soft_wrap=True)
    out.print(f"Digest       {bundle.digest}", soft_wrap=True)
