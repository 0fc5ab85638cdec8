"""`oel abandon`: ends a round that cannot be finished, so that the project's next trigger starts another."""

from typing import Annotated

import typer

from flows.cli.shared import RUNS, AsJson, Root, RunName, out, print_json


def abandon(
    project: RunName,
    round_index: Annotated[int, typer.Argument(metavar="ROUND", min=1, help="Number of the open round.")],
    reason: Annotated[str, typer.Option(help="Reason; stored with the round.")] = "",
    root: Root = RUNS,
    as_json: AsJson = False,
) -> None:
    """End an open round as failed. Its files are kept; the next trigger starts another round from the champion."""
    from oel_core.projects.triggers import abandon as end_round
    from oel_core.runs.folder import find_run
    from oel_core.runs.processes import user_name

    folder = find_run(root, project)
    with folder.leased("oel abandon"):
        ended = end_round(folder, round_index, f"abandoned by {user_name()}" + (f": {reason}" if reason else ""))
    if as_json:
        print_json([ended.model_dump(mode="json")])
    else:
        out.print(f"round {round_index} of {folder.name}: {ended.outcome}, {ended.detail}", soft_wrap=True)
