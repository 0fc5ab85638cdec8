"""What the forms of the deployments share: the presets as a choice, the worker's run root, what to do when busy."""

import os
from collections.abc import Sequence
from enum import Enum, StrEnum
from pathlib import Path

from prefect.runtime import flow_run

from oel_core.config.run import OelConfig, load_config, preset_names
from oel_core.projects.settings import Asked, asked_config
from oel_core.runs.folder import RunFolder, require_run_name

Preset = Enum("Preset", {name: name for name in preset_names()}, type=str)  # type: ignore[misc]
"""The presets that ship with the project."""


class WhenBusy(StrEnum):
    """What a round does while another one of the same project runs."""

    refuse = "refuse"
    queue = "queue"


QUEUE_S = 24 * 3600.0
"""How long a queued round waits."""


def resolve(preset: Enum, preset_file: str | None, overrides: Sequence[str]) -> OelConfig:
    """The configuration that a form describes; a file goes before a preset's name."""
    return load_config(preset_file or str(preset.value), overrides)


def asked_of(preset: Enum | None, preset_file: str | None, overrides: Sequence[str]) -> Asked:
    """What a project's form names; a file goes before a preset's name."""
    return Asked(preset=preset_file or (str(preset.value) if preset is not None else None), overrides=tuple(overrides))


def resolve_for(
    root: Path, project: str, preset: Enum | None, preset_file: str | None, overrides: Sequence[str]
) -> OelConfig:
    """The project's own configuration but for what its form names, which the project does not keep."""
    require_run_name(project)
    return asked_config(RunFolder(root / project), asked_of(preset, preset_file, overrides))


def run_root() -> Path:
    """Where the worker keeps runs: `$OEL_ROOT`, as `oel up` sets it, else `runs`."""
    return Path(os.environ.get("OEL_ROOT", "runs"))


def trigger_id(given: str | None) -> str:
    """The id given, else the flow run's own, which stays the same when Prefect runs it again."""
    return given or str(flow_run.id)


def lease_timeout_s(when_busy: WhenBusy) -> float:
    """Seconds to wait for a project that is busy."""
    return QUEUE_S if when_busy is WhenBusy.queue else 0.0
