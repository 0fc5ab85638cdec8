"""`oel bundle`: a round's knowledge and prompts for another machine, and what that one trained on them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.help import example
from flows.cli.shared import RUNS, AsJson, Root, RunName, out, print_json

if TYPE_CHECKING:
    from oel_core.bundles.reading import Bundle

app = typer.Typer(help="A round's knowledge and prompts, for a machine that only trains.", no_args_is_help=True)
Number = Annotated[int | None, typer.Option("--round", min=1, help="Round; the newest if not given.")]


@app.command("make", epilog=example("oel bundle make lake --out lake.zip"))
def make(
    run: RunName,
    path: Annotated[Path, typer.Option("--out", help="The archive, a new .zip file.")],
    round_index: Number = None,
    knowledge_only: Annotated[
        bool, typer.Option("--knowledge-only", help="No prompts: the other machine writes some from the knowledge.")
    ] = False,
    names: Annotated[
        Path | None, typer.Option("--names", help="Text file of names of people, one a line, which count as private.")
    ] = None,
    root: Root = RUNS,
    as_json: AsJson = False,
) -> None:
    """Write what another machine needs to distil a round: knowledge and prompts, no episodes, no private data."""
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
    """Check a bundle and say what is in it."""
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
    """Take over what another machine trained on a round's bundle; the round goes on with its evaluation."""
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
