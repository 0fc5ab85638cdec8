"""The manifest of a finished stage: the settings and inputs that made it, and digests of its files."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError

from oel_core.errors import ArtifactError
from oel_core.runs.arithmetic import Arithmetic
from oel_core.runs.files import write_atomic
from oel_core.text.invalid import described
from oel_core.types import Record, Values

SCHEMA_VERSION = 1
ABSENT = "(absent)"
MANIFEST, STARTED = "manifest.json", "started.json"
FREED, ALTERED = "freed.json", "altered.json"
WEIGHTS = (".safetensors",)

R = TypeVar("R", bound=Record)


def digest_bytes(data: bytes) -> str:
    """SHA-256, first 16 hex digits."""
    return hashlib.sha256(data).hexdigest()[:16]


def digest_file(path: Path) -> str:
    """`digest_bytes` of a file's content, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


class StageKey(Record):
    """Everything that determines a stage's output. With an equal key, finished work is reused."""

    schema_version: int = SCHEMA_VERSION
    stage: str
    """Round and stage, like `round_01/evaluate/held_out`."""
    sections: tuple[str, ...]
    """Dotted paths of the configuration that the stage depends on; a section covers all of its fields."""
    config: Values
    """The configuration fields that the stage depends on: dotted path → value."""
    inputs: dict[str, str]
    """Name of each input → its digest."""

    @property
    def config_digest(self) -> str:
        return digest_bytes(self.model_copy(update={"inputs": {}}).model_dump_json().encode())


class OutputFile(Record):
    """One file of a finished stage."""

    bytes: int = Field(ge=0)
    digest: str


class Manifest(Record):
    """`manifest.json`: written last, so its existence means that the stage is complete."""

    key: StageKey
    config_digest: str
    counts: dict[str, float]
    """Counts of the stage: episodes, items, tokens, seconds."""
    outputs: dict[str, OutputFile]
    """Path within the stage's folder → size and digest."""
    package_version: str
    finished_at: float
    """Seconds since 1970, UTC."""
    arithmetic: Arithmetic | None = None
    """Of the process that finished the stage; None if it had not imported torch."""

    @property
    def digest(self) -> str:
        """One digest of all outputs, used as an input of later stages."""
        lines = (f"{path}={file.digest}" for path, file in sorted(self.outputs.items()))
        return digest_bytes("\n".join(lines).encode())


def read_record(path: Path, kind: type[R]) -> R:
    """The record in a JSON file.

    Raises:
        ArtifactError: the file is missing or not such a record; the message names the file and the field.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read ({error.strerror}): run the stage that writes it") from error
    except ValidationError as error:
        raise ArtifactError(
            f"{path} is not a {kind.__name__}: {described(error, 'the file')}; delete its folder and run again"
        ) from error


def read_optional(path: Path, kind: type[R]) -> R | None:
    """`read_record`, or None if the file does not exist."""
    return read_record(path, kind) if path.exists() else None


class Freed(Record):
    """`freed.json` in a stage's folder: outputs that were removed on purpose and do not count as missing."""

    files: tuple[str, ...]
    """Relative to the folder."""
    at: float
    """Seconds since 1970, UTC."""
    left: dict[str, str] = Field(default_factory=dict, exclude_if=lambda value: not value)
    """File that stands in the place of removed ones, relative to the folder → its digest."""


def read_freed(folder: Path) -> Freed | None:
    """What was removed from the stage in `folder` on purpose; None for nothing."""
    return read_optional(folder / FREED, Freed)


def freed_files(folder: Path) -> tuple[str, ...]:
    """Outputs of the stage in `folder` that were removed on purpose."""
    found = read_freed(folder)
    return () if found is None else found.files


def record_freed(folder: Path, freed: Freed) -> None:
    """Adds outputs to be removed to the record. Call it before removing them, so that a kill in between is no loss."""
    before = read_freed(folder) or Freed(files=(), at=freed.at)
    files, left = tuple(sorted({*before.files, *freed.files})), {**before.left, **freed.left}
    write_atomic(folder / FREED, Freed(files=files, at=freed.at, left=left).model_dump_json(indent=1).encode())


class Altered(Record):
    """`altered.json` in a stage's folder: outputs from which recorded conversations were removed."""

    files: dict[str, str]
    """Relative to the folder → digest after the removal."""


def altered_files(folder: Path) -> dict[str, str]:
    """Outputs of the stage in `folder` that were changed on purpose, and their digests since."""
    found = read_optional(folder / ALTERED, Altered)
    return {} if found is None else found.files


def note_altered(folder: Path, files: Mapping[str, str]) -> None:
    """Records outputs that were changed on purpose."""
    altered = Altered(files={**altered_files(folder), **files})
    write_atomic(folder / ALTERED, altered.model_dump_json(indent=1).encode())


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as dotted paths: {"a": {"b": 1}} → {"a.b": 1}. Empty sections are kept as values."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{path}.")
        else:
            flat[path] = value
    return flat


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Lines `name: old → new` for every entry that differs."""
    names = sorted(old.keys() | new.keys())
    pairs = ((name, old.get(name, ABSENT), new.get(name, ABSENT)) for name in names)
    return [f"{name}: {before} → {after}" for name, before, after in pairs if before != after]


def chosen_settings(settings: Mapping[str, Any], sections: Sequence[str]) -> dict[str, Any]:
    """The flat settings that are one of the sections or belong to one."""
    return {
        path: value
        for path, value in settings.items()
        if any(path == section or path.startswith(f"{section}.") for section in sections)
    }


def require_same(old: StageKey, new: StageKey, folder: Path) -> None:
    """Raises ArtifactError that lists every changed setting and input, and what to do."""
    changes = [f"  setting {line}" for line in differences(old.config, new.config)]
    changes += [f"  input {line}" for line in differences(old.inputs, new.inputs)]
    if old.schema_version != new.schema_version:
        changes.append(f"  schema version: {old.schema_version} → {new.schema_version}")
    if changes:
        raise ArtifactError(
            f"{old.stage} was made with other settings or inputs:\n" + "\n".join(changes) + "\n"
            f"Undo the change, use a new run name, or delete {folder} (and the stages after it) to make it again."
        )
