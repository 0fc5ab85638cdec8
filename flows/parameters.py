"""Shared parameters of the deployments: presets as an enum, the worker's run root, behaviour when busy."""

import os
from collections.abc import Sequence
from enum import Enum, StrEnum
from pathlib import Path

from prefect.runtime import flow_run

from oel_core.config.run import OelConfig, load_config, preset_names
from oel_core.projects.settings import RequestedSettings, requested_config
from oel_core.runs.folder import RunFolder, require_run_name

Preset = Enum("Preset", {name: name for name in preset_names()}, type=str)  # type: ignore[misc]
"""The presets that ship with the project."""


class WhenBusy(StrEnum):
    """Behaviour of a round while another one of the same project runs."""

    refuse = "refuse"
    queue = "queue"


QUEUE_S = 24 * 3600.0
"""Lease timeout of a queued round, seconds."""


def resolve(preset: Enum, preset_file: str | None, overrides: Sequence[str]) -> OelConfig:
    """The configuration of a form; a file takes precedence over a preset."""
    return load_config(preset_file or str(preset.value), overrides)


def requested_settings(preset: Enum | None, preset_file: str | None, overrides: Sequence[str]) -> RequestedSettings:
    """The settings requested in a project's form; a file takes precedence over a preset."""
    return RequestedSettings(
        preset=preset_file or (str(preset.value) if preset is not None else None), overrides=tuple(overrides)
    )


def resolve_for(
    root: Path, project: str, preset: Enum | None, preset_file: str | None, overrides: Sequence[str]
) -> OelConfig:
    """The project's configuration with the form's changes, which are not stored in the project."""
    require_run_name(project)
    return requested_config(RunFolder(root / project), requested_settings(preset, preset_file, overrides))


def run_root() -> Path:
    """The worker's run root: `$OEL_ROOT`, set by `oel up`, else `runs`."""
    return Path(os.environ.get("OEL_ROOT", "runs"))


def trigger_id(given: str | None) -> str:
    """The given id, else the flow run's, which is the same when Prefect retries the run."""
    return given or str(flow_run.id)


def lease_timeout_s(when_busy: WhenBusy) -> float:
    """Timeout for acquiring a busy project's lease, seconds."""
    return QUEUE_S if when_busy is WhenBusy.queue else 0.0
