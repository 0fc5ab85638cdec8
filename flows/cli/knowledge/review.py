"""`oel review`: shows a round's knowledge and stores a decision, with or without a server."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.shared import RUNS, AsJson, Root, RunName, echo, out, print_json

if TYPE_CHECKING:
    from oel_core.runs.folder import RunFolder


def review(
    run: RunName,
    round_index: Annotated[int | None, typer.Option("--round", min=1, help="Round; the newest if not given.")] = None,
    approve: Annotated[bool, typer.Option("--approve", help="Continue the round.")] = False,
    reject: Annotated[bool, typer.Option("--reject", help="Stop the round.")] = False,
    drop: Annotated[str, typer.Option(help="With --approve: numbers of items to drop, like 3,7.")] = "",
    note: Annotated[str, typer.Option(help="Reason; stored with the decision.")] = "",
    author: Annotated[str | None, typer.Option(help="Reviewer's name; the system's user if not given.")] = None,
    root: Root = RUNS,
    as_json: AsJson = False,
) -> None:
    """Show the numbered items of a round, or decide about them with --approve or --reject."""
    from oel_core.errors import ConfigError
    from oel_core.projects.review import Decision, decide
    from oel_core.rounds.round import Round
    from oel_core.runs.folder import find_run
    from oel_core.runs.processes import user_name

    folder = find_run(root, run)
    number = round_index or _newest(folder)
    if (approve and reject) or (drop and not approve):
        raise ConfigError("decide with either --approve or --reject; --drop goes with --approve")
    if not approve and not reject:
        _show(folder, number, as_json)
        return
    decision = Decision(
        decision="approve" if approve else "reject",
        dropped=_numbers(drop),
        note=note,
        author=author or user_name(),
        via="oel review",
        decided_at=time.time(),
    )
    decide(Round(folder.config(), folder, number), decision)
    if as_json:
        print_json([{"run": folder.name, "round": number} | decision.model_dump(mode="json")])
        return
    out.print(f"Round {number} of {folder.name}: {decision.decision} by {decision.author}", markup=False)


def _numbers(drop: str) -> tuple[int, ...]:
    from oel_core.errors import ConfigError

    try:
        return tuple(int(part) for part in drop.replace(",", " ").split())
    except ValueError as error:
        raise ConfigError(f"--drop {drop}: write item numbers with commas between them, like 3,7") from error


def _newest(folder: "RunFolder") -> int:
    """The newest round with knowledge."""
    from oel_core.errors import ConfigError

    numbers = [number for number in range(1, folder.config().rounds + 1) if folder.has(number, "accumulate")]
    if not numbers:
        raise ConfigError(f"{folder.name} has no knowledge yet: there is nothing to review")
    return numbers[-1]


def _show(folder: "RunFolder", number: int, as_json: bool) -> None:
    from flows.pages.round import contradiction_lines, review_lines
    from oel_core.projects.review import decision_of, review_list
    from oel_core.rounds.round import Round

    round = Round(folder.config(), folder, number)
    found, decision = review_list(round), decision_of(round)
    if as_json:
        others = {number: group for group in found.contradictions for number in group}
        print_json(
            [
                {"number": entry.number, "replica": entry.replica, "new": entry.is_new, "conflicts": entry.conflicts}
                | {"contradictions": [number for number in others.get(entry.number, ()) if number != entry.number]}
                | entry.item.model_dump(mode="json")
                for entry in found.items
            ]
        )
        return
    for replica in sorted({entry.replica for entry in found.items} | {replica for replica, _ in found.gone}):
        out.rule(f"round {number}, replica {replica}")
        lines = [line for entry in found.items if entry.replica == replica for line in review_lines(entry)]
        lines += [f"-      {item.text}" for place, item in found.gone if place == replica]
        echo("\n".join(lines))
    for line in contradiction_lines(found):
        out.print(line, markup=False)
    made = f"{decision.decision} by {decision.author}" if decision else "not decided: --approve or --reject"
    out.print(f"Round {number} of {folder.name}: {made}", markup=False)
