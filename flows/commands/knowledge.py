"""`oel knowledge`: what a run has learned, in words."""

from typing import Annotated

import typer

from flows.commands.shared import RUNS, AsJson, Root, out, print_json

app = typer.Typer(help="Knowledge files of a run.", no_args_is_help=True)
Run = Annotated[str, typer.Argument(help="Name of a run under --root, or its path.")]
Round = Annotated[int, typer.Argument(min=1, help="Round, from 1.")]
Replica = Annotated[int | None, typer.Option(min=0, help="One replica; all if not given.")]


@app.command("show")
def show(run: Run, round_index: Round, replica: Replica = None, root: Root = RUNS, as_json: AsJson = False) -> None:
    """Print the knowledge exactly as a model reads it."""
    from oel_core.artifacts import find_run
    from oel_core.knowledge import load_knowledge

    folder = find_run(root, run)
    wanted = range(folder.config().collect.replicas) if replica is None else [replica]
    folder.manifest(round_index, "accumulate")
    found = [load_knowledge(folder.stage_path(round_index, "accumulate"), index) for index in wanted]
    if as_json:
        print_json([knowledge.model_dump(mode="json") for knowledge in found])
        return
    for knowledge in found:
        if replica is None:
            out.rule(f"replica {knowledge.replica}: {len(knowledge.items)} items, {knowledge.tokens} tokens")
        typer.echo(knowledge.text)


@app.command("diff")
def diff(
    run: Run, first: Round, second: Round, replica: Replica = None, root: Root = RUNS, as_json: AsJson = False
) -> None:
    """Print what a later round's knowledge gained and lost."""
    from oel_core.artifacts import find_run
    from oel_core.knowledge import diff as compare
    from oel_core.knowledge import load_knowledge

    folder = find_run(root, run)
    wanted = range(folder.config().collect.replicas) if replica is None else [replica]
    for index in wanted:
        old, new = (load_knowledge(folder.stage_path(number, "accumulate"), index) for number in (first, second))
        changes = compare(old, new)
        marked = [("kept", " ", changes.kept), ("dropped", "-", changes.dropped), ("new", "+", changes.new)]
        if as_json:
            print_json([{"replica": index} | {name: [item.text for item in items] for name, _, items in marked}])
            continue
        if replica is None:
            out.rule(f"replica {index}: {len(changes.new)} new, {len(changes.dropped)} dropped")
        for _, sign, items in marked:
            for item in items:
                typer.echo(f"{sign} {item.text}")
