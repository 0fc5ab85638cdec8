"""The output of `oel run --dry-run`. Exit code 0: the run can start; 1: a requirement is missing."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from flows.cli.shared import err, out, print_json, print_table

if TYPE_CHECKING:
    from oel_core.config.run import OelConfig
    from oel_core.preflight.dry_run import DryRun

GIB = 2**30
COLUMNS = ("stage", "times", "model calls", "prompt tokens", "response tokens", "memory GiB", "disk GiB")


def show_needs(preset: str, config: "OelConfig", root: Path, as_json: bool) -> None:
    """Prints the needs of a run; exits with 1 where a requirement is missing."""
    from oel_core.preflight.dry_run import dry_run

    report = dry_run(config, root)
    if as_json:
        print_json([{**asdict(report), "memory": report.memory}])
    else:
        _show(preset, config, report)
    if report.missing:
        raise typer.Exit(1)


def _show(preset: str, config: "OelConfig", report: "DryRun") -> None:
    _line("Model", _model(config, report))
    _line("World", f"{config.environment.name} {config.environment.options or ''}, {config.rounds} rounds")
    for change in config.environment.changes:
        _line("", f"from round {change.round} on {change.options}")
    _line(
        "Here", f"{report.machine.device}, {_gib(report.machine.memory)} GiB; {_gib(report.machine.disk)} GiB disk free"
    )
    rows = [
        (
            stage.stage,
            str(stage.rounds),
            f"{stage.calls:,}",
            _tokens(stage.prompt_tokens),
            _tokens(stage.response_tokens),
            _gib(stage.memory),
            _gib(stage.disk),
        )
        for stage in report.stages
    ]
    print_table(f"{preset}: at most, each time", COLUMNS, rows)
    _line("Peak", f"{_gib(report.memory)} GiB of the model's device; {_gib(report.disk)} GiB of disk for the whole run")
    if not report.missing:
        out.print("Everything it needs is here.")
    show_cautions(report.cautions)
    for problem in report.missing:
        err.print(f"missing  {problem}", style="red", markup=False, highlight=False, soft_wrap=True)


def show_cautions(cautions: Sequence[str]) -> None:
    """Prints warnings about unstable settings."""
    for caution in cautions:
        err.print(f"warning  {caution}", style="yellow", markup=False, highlight=False, soft_wrap=True)


def _model(config: "OelConfig", report: "DryRun") -> str:
    if report.parameters is None:
        return f"{report.model}: architecture unknown, so is what it needs ({config.model.dtype})"
    return (
        f"{report.model}: {report.parameters:,} parameters in {config.model.dtype}, {report.trained:,} of them trained "
        f"(from {report.known_from})"
    )


def _line(name: str, text: str) -> None:
    out.print(f"{name:<6} {text}", highlight=False, soft_wrap=True, markup=False)


def _gib(count: int | None) -> str:
    return "?" if count is None else f"{count / GIB:.1f}" if count >= GIB / 10 else f"{count / GIB:.3f}"


def _tokens(count: int) -> str:
    return f"{count / 1e6:.1f}M" if count >= 100_000 else f"{count:,}"
