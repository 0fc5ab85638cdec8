"""`oel compact`: removes transcripts and optimiser states of rounds that are over."""

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.runs.list_runs import size
from flows.cli.shared import RUNS, AsJson, RunName, StoredRoot, out, print_json, print_table

if TYPE_CHECKING:
    from oel_core.housekeeping.compacting import Shrinkable


def compact(
    run: RunName,
    keep: Annotated[int, typer.Option(min=1, help="Newest rounds that stay as they are.")] = 3,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it; without this nothing is removed.")] = False,
    root: StoredRoot = RUNS,
    as_json: AsJson = False,
) -> None:
    """List what old rounds have of transcripts and optimiser states, and the disk it takes. With --yes remove it.

    Models, adapters, manifests, knowledge, figures and the outcome of every measured episode stay. Later rounds, the
    gate and the report work as before; compacted rounds cannot be bundled or distilled again.
    """
    from oel_core.housekeeping.compacting import compact as remove
    from oel_core.housekeeping.compacting import compactable
    from oel_core.housekeeping.forgetting.erasure import finish
    from oel_core.runs.folder import find_run

    folder = find_run(root, run)
    with folder.leased("oel compact"):
        finish(folder.path)  # of an `oel forget` that was killed: it names files that are about to go
        found = compactable(folder, keep)
        _show(found, yes, as_json)
        if yes:
            remove(folder, found)
    if yes and found and not as_json:
        out.print("removed")


def _show(found: "list[Shrinkable]", removed: bool, as_json: bool) -> None:
    if as_json:
        print_json([{**one.model_dump(mode="json"), "removed": removed} for one in found])
        return
    if not found:
        out.print("There is nothing to compact.")
        return
    print_table("", ("round", "files", "frees"), [(str(o.round), str(len(o.files)), size(o.bytes)) for o in found])
    total = size(sum(one.bytes for one in found))
    out.print(f"{total} are freed" if removed else f"{total} would be freed: the same command with --yes removes it")
