"""A project's configuration, stored in its folder; a trigger changes only the settings it names.

`config.yaml` is the present configuration. `settings.jsonl` beside it is the history: the initial settings, and every
change with its time, trigger, old and new values.
"""

import time

from oel_core.config.run import OelConfig, dump_config, load_config
from oel_core.errors import ConfigError
from oel_core.runs.files import write_atomic
from oel_core.runs.folder import CONFIG, RunFolder
from oel_core.runs.jsonl import JsonlWriter, recover_jsonl
from oel_core.runs.manifest import differences, flatten
from oel_core.types import Record

SETTINGS, NEW_PROJECT = "settings.jsonl", "quickstart"
COUNTED = ("rounds",)
"""Fields that increase automatically with a project's rounds."""


class RequestedSettings(Record):
    """The settings that a trigger requests."""

    preset: str | None = None
    """Name of a preset or path of a YAML file that replaces the project's configuration; None keeps it."""
    overrides: tuple[str, ...] = ()
    """`section.field=value`, each replacing one setting."""


class SettingsChange(Record):
    """A line of `settings.jsonl`."""

    trigger: str
    """Id of the trigger that requested the change."""
    preset: str | None
    """The requested preset, or the initial preset of a new project."""
    changes: tuple[str, ...]
    """`field: old → new`; empty for the initial settings."""
    at: float
    """Seconds since 1970, UTC."""


def requested_config(run: RunFolder, requested: RequestedSettings) -> OelConfig:
    """The project's configuration, or the requested preset, with the overrides applied.

    The default preset of a new project is `quickstart`.

    Raises:
        ConfigError: as `load_config`, which names the project's `config.yaml` like any other file; or the environment
            is to change at a round that has begun, or the gate would compare evaluations made before and after it.
    """
    own = run.path / CONFIG
    config = load_config(requested.preset or (str(own) if own.is_file() else NEW_PROJECT), requested.overrides)
    if config.environment.changes and config.gate.test == "bootstrap":
        raise ConfigError(
            "environment.changes does not go with gate.test bootstrap in a project: it compares with a champion that "
            "was measured before the change. Set gate.test=sequential, which plays new episodes with both models in "
            "the environment of the round; or remove environment.changes, and name the new environment.options at the "
            "trigger from which they hold"
        )
    if own.is_file():
        _require_same_past(run, config)
    return config


def _require_same_past(run: RunFolder, config: OelConfig) -> None:
    """Raises ConfigError where a planned change of the environment would apply to a round that has begun."""
    newest = max(run.rounds(), default=0)
    kept, asked = (
        [change for change in one.environment.changes if change.round <= newest] for one in (run.config(), config)
    )
    if asked != kept:
        raise ConfigError(
            f"environment.changes: rounds up to {newest} have begun, so changes at these rounds stay as they are in "
            f"{run.path / CONFIG}: plan a new one for round {newest + 1} or later"
        )


def change_of(run: RunFolder, config: OelConfig, requested: RequestedSettings, trigger: str) -> SettingsChange | None:
    """The change from the project's configuration to `config`; None where they are equal."""
    if not (run.path / CONFIG).is_file():
        preset = requested.preset or NEW_PROJECT
        return SettingsChange(trigger=trigger, preset=preset, changes=requested.overrides, at=time.time())
    old, new = (flatten(one.model_dump(mode="json", exclude=set(COUNTED))) for one in (run.config(), config))
    changes = tuple(differences(old, new))
    return (
        SettingsChange(trigger=trigger, preset=requested.preset, changes=changes, at=time.time()) if changes else None
    )


def keep_config(run: RunFolder, config: OelConfig, change: SettingsChange | None) -> None:
    """Records the change, if any, and then stores `config` as the project's. Requires the lease."""
    if change is not None:
        known = recover_jsonl(run.path / SETTINGS, SettingsChange)
        if not known or known[-1].model_copy(update={"at": change.at}) != change:  # else recorded before a kill
            with JsonlWriter(run.path / SETTINGS) as writer:
                writer.append(change)
    write_atomic(run.path / CONFIG, dump_config(config).encode())


def settings_changes(run: RunFolder) -> list[SettingsChange]:
    """All changes, oldest first."""
    return recover_jsonl(run.path / SETTINGS, SettingsChange)


def change_lines(run: RunFolder, trigger: str) -> list[str]:
    """The changes of a trigger as lines of text."""
    found = [change for change in settings_changes(run) if change.trigger == trigger]
    return [line for change in found for line in _lines_of(change)]


def _lines_of(change: SettingsChange) -> list[str]:
    if change.preset is None:
        return [f"settings changed: {line}" for line in change.changes]
    return [f"preset {change.preset}: {', '.join(change.changes) or 'as it is'}"]
