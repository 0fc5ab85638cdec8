"""Shell completion of runs, presets, suites and deployments; empty for unreadable folders."""

from collections.abc import Iterable
from pathlib import Path

import typer

DEPLOYMENTS = ("collect-only", "evaluate-model", "learning-loop", "next-round")


def run_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Runs and studies under the `--root` given so far."""
    root = Path(ctx.params.get("root") or "runs")
    try:
        found = [path.name for path in root.iterdir() if is_run(path)]
    except OSError:
        return []
    return _starting(found, incomplete)


def is_run(path: Path) -> bool:
    """Whether it is a folder with a valid run name; other names are not passed to the shell."""
    from oel_core.runs.folder import RUN_NAME

    return RUN_NAME.fullmatch(path.name) is not None and path.is_dir()


def presets(incomplete: str) -> list[str]:
    """Built-in presets."""
    from oel_core.config.run import preset_names

    return _starting(preset_names(), incomplete)


def configurations(ctx: typer.Context, incomplete: str) -> list[str]:
    """Presets, then runs."""
    return [*presets(incomplete), *run_names(ctx, incomplete)]


def suites(incomplete: str) -> list[str]:
    """Suites of `oel eval`."""
    from oel_core.evaluation import suite_names

    return _starting(suite_names(), incomplete)


def deployments(incomplete: str) -> list[str]:
    """Built-in deployments."""
    return _starting(DEPLOYMENTS, incomplete)


def _starting(names: Iterable[str], incomplete: str) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))
