"""A project's configuration: kept in its folder, and changed only in what somebody names.

`config.yaml` is what the project goes on with. `settings.jsonl` beside it says what it was made with, and every change
since: when, by which trigger, from what to what.
"""

import time

from oel_core.config.run import OelConfig, dump_config, load_config
from oel_core.runs.files import write_atomic
from oel_core.runs.folder import CONFIG, RunFolder
from oel_core.runs.jsonl import JsonlWriter, recover_jsonl
from oel_core.runs.manifest import differences, flatten
from oel_core.types import Record

SETTINGS, NEW_PROJECT = "settings.jsonl", "quickstart"
COUNTED = ("rounds",)
"""Fields that grow by themselves with a project's rounds."""


class Asked(Record):
    """Which settings somebody names."""

    preset: str | None = None
    """Name of a preset or path of a YAML file, in place of all that the project has; None: the project's own."""
    overrides: tuple[str, ...] = ()
    """`section.field=value`, each in place of one setting."""


class SettingsChange(Record):
    """A line of `settings.jsonl`."""

    trigger: str
    """Id of the trigger that named them."""
    preset: str | None
    """The preset that was named, or that a new project was made with."""
    changes: tuple[str, ...]
    """`field: old → new`; none where the project was made."""
    at: float
    """Seconds since 1970, UTC."""


def asked_config(run: RunFolder, asked: Asked) -> OelConfig:
    """The project's own configuration, or the preset that is named, with the overrides applied.

    A project that does not exist yet is made with the preset `quickstart` when none is named.

    Raises:
        ConfigError: as `load_config`, which names the project's `config.yaml` like any other file.
    """
    own = run.path / CONFIG
    return load_config(asked.preset or (str(own) if own.is_file() else NEW_PROJECT), asked.overrides)


def change_of(run: RunFolder, config: OelConfig, asked: Asked, trigger: str) -> SettingsChange | None:
    """What the project's configuration changes in when it becomes `config`; None where it stays."""
    if not (run.path / CONFIG).is_file():
        preset = asked.preset or NEW_PROJECT
        return SettingsChange(trigger=trigger, preset=preset, changes=asked.overrides, at=time.time())
    old, new = (_settings(one) for one in (run.config(), config))
    changes = tuple(differences(old, new))
    return SettingsChange(trigger=trigger, preset=asked.preset, changes=changes, at=time.time()) if changes else None


def keep_config(run: RunFolder, config: OelConfig, change: SettingsChange | None) -> None:
    """Makes `config` the project's own, and notes the change, if there is one, before. Call it with the lease held."""
    if change is not None:
        known = recover_jsonl(run.path / SETTINGS, SettingsChange)
        if not known or known[-1].model_copy(update={"at": change.at}) != change:  # else noted before a kill
            with JsonlWriter(run.path / SETTINGS) as writer:
                writer.append(change)
    write_atomic(run.path / CONFIG, dump_config(config).encode())


def settings_changes(run: RunFolder) -> list[SettingsChange]:
    """All changes so far, the oldest first."""
    return recover_jsonl(run.path / SETTINGS, SettingsChange)


def told_changes(run: RunFolder, trigger: str) -> list[str]:
    """What a trigger changed, in lines; a trigger that changed nothing has none."""
    found = [change for change in settings_changes(run) if change.trigger == trigger]
    return [line for change in found for line in _told(change)]


def _told(change: SettingsChange) -> list[str]:
    if change.preset is None:
        return [f"settings changed: {line}" for line in change.changes]
    return [f"preset {change.preset}: {', '.join(change.changes) or 'as it is'}"]


def _settings(config: OelConfig) -> dict[str, object]:
    return flatten(config.model_dump(mode="json", exclude=set(COUNTED)))
