"""`oel knowledge`: prints and compares a run's knowledge."""

from typing import Annotated

import typer

from flows.cli.help import example
from flows.cli.shared import RUNS, AsJson, RunName, StoredRoot, echo, out, print_json, print_table

app = typer.Typer(help="Knowledge files of a run.", no_args_is_help=True)
Round = Annotated[int, typer.Argument(min=1, help="Round, from 1.")]
Replica = Annotated[int | None, typer.Option(min=0, help="One replica; all if not given.")]


@app.command("show", epilog=example("oel knowledge show lake 2"))
def show(
    run: RunName, round_index: Round, replica: Replica = None, root: StoredRoot = RUNS, as_json: AsJson = False
) -> None:
    """Print the knowledge as a model reads it, with invisible characters escaped."""
    from oel_core.knowledge.store import load_knowledge
    from oel_core.reporting.findings.learned import known_replicas
    from oel_core.runs.folder import find_run

    folder = find_run(root, run)
    wanted = known_replicas(folder, round_index) if replica is None else [replica]
    found = [load_knowledge(folder.stage_path(round_index, "accumulate"), index) for index in wanted]
    if as_json:
        print_json([knowledge.model_dump(mode="json") for knowledge in found])
        return
    for knowledge in found:
        if replica is None:
            out.rule(f"replica {knowledge.replica}: {len(knowledge.items)} items, {knowledge.tokens} tokens")
        echo(knowledge.text)


@app.command("diff", epilog=example("oel knowledge diff lake 1 2"))
def diff(
    run: RunName, first: Round, second: Round, replica: Replica = None, root: StoredRoot = RUNS, as_json: AsJson = False
) -> None:
    """Print the items that a later round added and removed."""
    from oel_core.knowledge.store import diff as compare
    from oel_core.knowledge.store import empty, load_knowledge
    from oel_core.reporting.findings.learned import known_replicas
    from oel_core.runs.folder import find_run

    folder = find_run(root, run)
    known = {number: known_replicas(folder, number) for number in (first, second)}
    for index in sorted({*known[first], *known[second]}) if replica is None else [replica]:
        old, new = (
            load_knowledge(folder.stage_path(number, "accumulate"), index)
            if index in known[number] or replica is not None
            else empty(index, number)
            for number in (first, second)
        )
        changes = compare(old, new)
        marked = [("kept", " ", changes.kept), ("dropped", "-", changes.dropped), ("new", "+", changes.new)]
        if as_json:
            print_json([{"replica": index} | {name: [item.text for item in items] for name, _, items in marked}])
            continue
        if replica is None:
            out.rule(f"replica {index}: {len(changes.new)} new, {len(changes.dropped)} dropped")
        for _, sign, items in marked:
            for item in items:
                echo(f"{sign} {item.text}")


@app.command("history", epilog=example("oel knowledge history lake \"'H'\""))
def history(
    run: RunName,
    item: Annotated[str, typer.Argument(metavar="TEXT", help="Text that the items contain; case does not matter.")],
    root: StoredRoot = RUNS,
    as_json: AsJson = False,
) -> None:
    """Show the history of items, round by round: state, evidence, and the episodes for and against them."""
    from oel_core.errors import ConfigError
    from oel_core.reporting.findings.item_histories import HISTORY, histories, history_row
    from oel_core.runs.folder import find_run

    folder = find_run(root, run)
    found = histories(folder, item)
    if not found:
        raise ConfigError(
            f"no item of {folder.name} contains '{item}' in a round with knowledge.revision: on; "
            f"`oel knowledge show {folder.name} ROUND` prints what there is"
        )
    for text, records in found.items():
        if as_json:
            print_json([{"round": number} | record.model_dump(mode="json") for number, record in records.items()])
            continue
        echo(text)
        print_table("", HISTORY, [history_row(number, record) for number, record in records.items()])
