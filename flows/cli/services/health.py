"""`oel status PROJECT`: one page of a project's health."""

import time
from typing import TYPE_CHECKING, Any

import typer

from flows.cli.runs.list_runs import size
from flows.cli.shared import out, print_json, print_table

if TYPE_CHECKING:
    from pathlib import Path

    from oel_core.health.alarms import Finding
    from oel_core.runs.folder import RunFolder
    from tasks.tracking.registry import Registry

NEWEST = 5
"""Rounds that the page shows."""


def health(root: "Path", project: str, notify: bool, as_json: bool) -> None:
    """Prints the page. Exit code 1 while an alarm holds."""
    from flows.services.client import use_running_services, use_tracking
    from oel_core.runs.folder import find_run

    run = find_run(root, project)
    use_running_services(run.path.parent)
    use_tracking(run.path.parent)
    from tasks.alarms import findings, watch
    from tasks.tracking.registry import registry_of
    from tasks.tracking.settings import load_settings

    registry = registry_of(load_settings(), run)
    if notify:
        with run.leased("oel status --notify"):
            watch(run, registry)
    found, label = findings(run, registry)
    if as_json:
        print_json([{**_figures(run, registry, label), "findings": [one.model_dump(mode="json") for one in found]}])
    else:
        _show(run, registry, label, found)
    if any(one.alarm for one in found):
        raise typer.Exit(1)


def _figures(run: "RunFolder", registry: "Registry", label: str) -> dict[str, Any]:
    from oel_core.gate.ledger import read_ledger
    from oel_core.housekeeping.listing import entry_of
    from oel_core.projects.triggers import open_round
    from oel_core.reporting.findings.champions import round_outcomes

    entry, ledger, champion = entry_of(run.path), read_ledger(run), registry.champion()
    newest = [
        {"round": one.round, "outcome": one.outcome, "champion": one.champion, "at": one.at}
        for one in round_outcomes(run)[-NEWEST:]
    ]
    return {
        "project": run.name,
        "status": entry.status,
        "champion": label,
        "champion_round": champion.round if champion else 0,
        "open_round": open_round(run),
        "rounds": entry.rounds,
        "newest": newest,
        "trials": len(ledger.trials),
        "next_level": ledger.next_level(run.config().gate.sequential.error_budget),
        "bytes": entry.bytes,
    }


def _show(run: "RunFolder", registry: "Registry", label: str, found: "list[Finding]") -> None:
    figures = _figures(run, registry, label)
    serves = f"version {label}, round {figures['champion_round']}" if label != "base" else "the preset's model"
    rows = [
        ("status", figures["status"]),
        ("champion", serves),
        (
            "rounds",
            f"{figures['rounds']}" + (f", round {figures['open_round']} is open" if figures["open_round"] else ""),
        ),
        ("disk", size(figures["bytes"])),
    ]
    if figures["trials"]:
        rows.append(("error budget", f"{figures['trials']} trials, the next one has level {figures['next_level']:.2g}"))
    print_table("", (run.name, ""), rows)
    outcomes = [
        (str(one["round"]), one["outcome"], str(one["champion"]), time.strftime("%Y-%m-%d", time.localtime(one["at"])))
        for one in figures["newest"]
    ]
    if outcomes:
        print_table("", ("round", "outcome", "champion after", "when"), outcomes)
    if found:
        shown = [(one.name, "ALARM" if one.alarm else "ok", one.text) for one in found]
        print_table("", ("about", "", "finding"), shown)
    else:
        out.print("There are too few rated or dated sessions in its inbox to look for drift.", soft_wrap=True)


def _open(number: int | None) -> str:
    return f", round {number} is open" if number is not None else ""
