"""A run on disk: `runs/<run>/config.yaml`, then one folder per round and stage.

A stage works in a hidden sibling `.<stage>.partial/` that survives a kill, writes `manifest.json` last and is then
renamed into place. So an existing stage folder is complete, a kill loses no finished work, and a rerun with the same
settings and inputs skips the stage.
"""

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oel_core import __version__
from oel_core.config.run import OelConfig, dump_config, read_config
from oel_core.config.serving import affects_results
from oel_core.errors import ArtifactError, ConfigError
from oel_core.plugins.builtin import foreign_components
from oel_core.runs.arithmetic import arithmetic
from oel_core.runs.files import sync_folder, write_atomic
from oel_core.runs.jsonl import require_json_lines
from oel_core.runs.lease import Waiting, held, ignore_wait
from oel_core.runs.locks import exclusive
from oel_core.runs.manifest import (
    MANIFEST,
    STARTED,
    WEIGHTS,
    Manifest,
    OutputFile,
    StageKey,
    altered_files,
    chosen_settings,
    digest_file,
    flatten,
    freed_files,
    read_record,
    require_same,
)
from oel_core.runs.stored.local_files import LEASE
from oel_core.runs.stored.replica import fetch_run, replica_of
from oel_core.text.visible import visible

LOCK, CONFIG = ".lock", "config.yaml"

_NO_ADDRESS = re.compile(r"[?\x00-\x1f\x7f\ud800-\udfff]|%[0-9a-fA-F]{2}")

_URL = re.compile(r"[a-z][a-z0-9+.-]+:/")
"""A URL, or what `Path` makes of it."""

RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""Pattern of a run's name."""

Work = Callable[[Path], Mapping[str, float]]
"""Does a stage's work in the given folder, which may contain files of a killed attempt, and returns counts."""


def round_name(round_index: int) -> str:
    return f"round_{round_index:02d}"


def replica_name(replica: int) -> str:
    return f"replica_{replica:02d}"


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run. Holds no state except its path."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    def stage_path(self, round_index: int, stage: str) -> Path:
        """Folder of a stage; `stage` may have a sub-path like `evaluate/held_out`."""
        return self.path / round_name(round_index) / stage

    def locked(self) -> AbstractContextManager[None]:
        """Excludes other processes of this machine. BusyError if one holds the lock."""
        return exclusive(self.path / LOCK)

    @contextmanager
    def leased(self, purpose: str, *, wait_s: float = 0.0, on_wait: Waiting = ignore_wait) -> Iterator[None]:
        """Excludes all other processes, on any machine; waits up to `wait_s` seconds for the holder of the lease.

        A run in a store is downloaded before the block, and its changes are uploaded after it.

        Raises:
            BusyError: a live process still holds the lease after `wait_s` seconds.
            ArtifactError, StoreError: as `Replica.held`.
        """
        replica = replica_of(self.path)
        replicated = replica.held(purpose, wait_s=wait_s, on_wait=on_wait) if replica else nullcontext()
        with held(self.path / LEASE, purpose, wait_s=wait_s, on_wait=on_wait), self.locked(), replicated:
            yield

    def config(self) -> OelConfig:
        """The resolved configuration of the last call."""
        path = self.path / CONFIG
        if not path.is_file():
            raise ArtifactError(f"{self.path} is not a run: it has no {CONFIG}")
        return read_config(path)

    def manifest(self, round_index: int, stage: str) -> Manifest:
        """The manifest of a finished stage. ArtifactError names the stage that has to run first."""
        path = self.stage_path(round_index, stage) / MANIFEST
        if not path.exists():
            raise ArtifactError(f"{path} is missing: {round_name(round_index)}/{stage} has not finished")
        return stage_manifest(self, path.parent)

    def has(self, round_index: int, stage: str) -> bool:
        """Whether the stage has finished."""
        return (self.stage_path(round_index, stage) / MANIFEST).exists()

    def rounds(self) -> list[int]:
        """Rounds that have a folder, finished or not, in ascending order; 0 is the base model's."""
        names = (path.name.removeprefix("round_") for path in self.path.glob("round_[0-9]*"))
        return sorted(int(name) for name in names if name.isdecimal())

    def stages(self, round_index: int | None = None) -> Iterator[Path]:
        """Folders of all finished stages, of one round or of all, in order."""
        rounds = "round_*" if round_index is None else round_name(round_index)
        found = sorted(self.path.glob(f"{rounds}/**/{MANIFEST}"))
        return (path.parent for path in found if not _is_partial(path))

    def perform(self, key: StageKey, work: Work) -> Manifest:
        """The stage's manifest: that of the finished stage if there is one with this key, otherwise after doing the
        work.

        Raises:
            ArtifactError: the stage, finished or partial, was made with other settings or inputs.
            StoreError: it could not be uploaded to the run's store; the next call does only that.
        """
        final = self.path / key.stage
        partial = final.with_name(f".{final.name}.partial")
        if final.exists():
            manifest = read_record(final / MANIFEST, Manifest)
            require_same(manifest.key, key, final)
            return manifest
        if not (partial / MANIFEST).exists():
            _begin(partial, key)
            began = time.monotonic()
            counts = dict(work(partial))
            _seal(partial, key, {**counts, "seconds": round(time.monotonic() - began, 3)})
        manifest = read_record(partial / MANIFEST, Manifest)
        require_same(manifest.key, key, partial)
        (partial / STARTED).unlink(missing_ok=True)
        if (replica := replica_of(self.path)) is not None:
            replica.finish_stage(partial, key.stage)
        os.replace(partial, final)
        sync_folder(final.parent)
        return manifest


def _is_partial(path: Path) -> bool:
    return any(part.startswith(".") and part.endswith(".partial") for part in path.parts)


def _begin(partial: Path, key: StageKey) -> None:
    """Creates the working folder, or checks that a killed attempt's folder has the same key."""
    started = partial / STARTED
    if started.exists():
        require_same(read_record(started, StageKey), key, partial)
        return
    if partial.exists():
        shutil.rmtree(partial)  # killed before it said what it was for: nothing in there was begun
    write_atomic(started, key.model_dump_json(indent=1).encode())


def _seal(partial: Path, key: StageKey, counts: Mapping[str, float]) -> None:
    """Writes the manifest of all files in the folder, after removing temporary files of killed writes."""
    outputs = {}
    for path in sorted(partial.rglob("*")):
        if path.is_file() and path.name.startswith(".") and path.name.endswith(".tmp"):
            path.unlink()
        elif path.is_file() and path.name not in (STARTED, MANIFEST):
            name = path.relative_to(partial).as_posix()
            outputs[name] = OutputFile(bytes=path.stat().st_size, digest=digest_file(path))
    manifest = Manifest(
        key=key,
        config_digest=key.config_digest,
        counts=dict(counts),
        outputs=outputs,
        package_version=__version__,
        finished_at=time.time(),
        arithmetic=arithmetic(),
    )
    write_atomic(partial / MANIFEST, manifest.model_dump_json(indent=1).encode())


def stage_key(
    config: OelConfig, round_index: int, stage: str, sections: Sequence[str], inputs: Mapping[str, str]
) -> StageKey:
    """The key of a stage that depends on these sections or fields of the configuration (dotted paths).

    For components that do not ship with the project it includes their version or the digest of their source.
    """
    settings = chosen_settings(_settings(config), sections)
    return StageKey(
        stage=f"{round_name(round_index)}/{stage}",
        sections=tuple(sections),
        config=settings,
        inputs={**inputs, **foreign_components(settings)},
    )


def _settings(config: OelConfig) -> dict[str, Any]:
    return {path: value for path, value in flatten(config.model_dump(mode="json")).items() if affects_results(path)}


def require_run_name(name: str) -> None:
    """Raises ConfigError for a name that is not allowed for a run's folder."""
    if RUN_NAME.fullmatch(name) is None:
        raise ConfigError(f"run name '{name}': use letters, digits, dot, dash and underscore, first a letter or digit")


def require_root(root: Path) -> None:
    """Raises ConfigError for a run root that cannot be part of the database URLs, before anything is written.

    Prefect and MLflow name their SQLite files in URLs. SQLAlchemy cannot quote a `?` there, and MLflow reads `%20` as a
    space, quoted or not: both would write beside the root instead of into it.
    """
    if _URL.match(str(root)) is not None:
        raise ConfigError(f"{visible(str(root))} is no folder: only commands with --root PATH|URL accept a store")
    path = str(root.resolve())
    found = _NO_ADDRESS.search(path)
    if found is not None:
        raise ConfigError(
            f"{visible(path)}: a run root holds databases that are named in URLs, so its path may not contain "
            f"'{visible(found[0])}': choose another --root"
        )


def open_run(root: Path, name: str) -> RunFolder:
    """Creates a run's folder or opens the existing one; `adopt_config` then checks the settings.

    Raises:
        ConfigError: the name is not allowed, or the root is not writable.
    """
    require_run_name(name)
    require_root(root)
    run = RunFolder(root / name)
    probe = run.path / ".writable"
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink(missing_ok=True)  # another process may open the same run at this moment
    except OSError as error:
        raise ConfigError(f"cannot write {run.path} ({error.strerror}): choose another --root") from error
    return run


def find_run(root: Path, name: str) -> RunFolder:
    """An existing run by its path or by its name under `root`. One in a store is downloaded, without its weights.

    Raises:
        ConfigError: there is none; the message lists those that exist.
        ArtifactError, StoreError: as `Replica.fetch`.
    """
    for path in (root / name, Path(name)):
        if RUN_NAME.fullmatch(path.name) is not None:
            fetch_run(path, "without weights")
        if (path / CONFIG).is_file():
            return RunFolder(path)
    known = sorted(path.parent.name for path in root.glob(f"*/{CONFIG}"))
    raise ConfigError(f"no run '{name}' under {root}: " + (f"there are {', '.join(known)}" if known else "it is empty"))


def adopt_config(run: RunFolder, config: OelConfig, *, since: int = 0) -> None:
    """Checks every finished and partial stage against `config`, then writes it as the run's own. Requires the run's
    lock.

    Raises:
        ArtifactError: as `check_stages`.
    """
    check_stages(run, config, since=since)
    write_atomic(run.path / CONFIG, dump_config(config).encode())


def check_stages(run: RunFolder, config: OelConfig, *, since: int = 0) -> None:
    """Checks every finished and partial stage against `config`.

    Settings are compared from round `since` on; earlier rounds may have been made with others.

    Raises:
        ArtifactError: a stage was made with other settings, or a finished file was changed since.
    """
    for folder in run.stages():
        manifest = stage_manifest(run, folder)
        if round_of(manifest.key) >= since:
            require_same(manifest.key, _with_settings(manifest.key, config), folder)
        verify_outputs(folder, manifest)
    for started in sorted(run.path.glob(f"round_*/**/{STARTED}")):
        key = read_record(started, StageKey)
        _require_place(key, run, started.parent)
        if round_of(key) >= since:
            require_same(key, _with_settings(key, config), started.parent)


def round_of(key: StageKey) -> int:
    """The round that a stage belongs to. Raises ArtifactError for an invalid stage name."""
    named = re.fullmatch(r"round_(\d{1,9})/.+", key.stage)
    if named is None:
        raise ArtifactError(f"'{key.stage}' is no stage of a run, like {round_name(1)}/collect: restore its manifest")
    return int(named[1])


def stage_manifest(run: RunFolder, folder: Path) -> Manifest:
    """The manifest in a finished stage's folder.

    Raises:
        ArtifactError: it cannot be read, or belongs to another stage than the folder's name.
    """
    manifest = read_record(folder / MANIFEST, Manifest)
    _require_place(manifest.key, run, folder)
    return manifest


def _require_place(key: StageKey, run: RunFolder, folder: Path) -> None:
    name = folder.name
    if _is_partial(Path(name)):
        name = name.removeprefix(".").removesuffix(".partial")
    place = folder.with_name(name).relative_to(run.path).as_posix()
    if key.stage != place:
        raise ArtifactError(
            f"{folder}: its record is of stage '{key.stage}', not {place}: restore the folder's name, or restore the "
            "record from a copy, or delete the folder and run again"
        )


def _with_settings(key: StageKey, config: OelConfig) -> StageKey:
    """The same key with the current values of the settings it depends on."""
    settings = _settings(config.at_round(round_of(key)))
    return key.model_copy(update={"config": chosen_settings(settings, key.sections)})


def verify_outputs(folder: Path, manifest: Manifest) -> None:
    """Raises ArtifactError if a finished file is missing or changed. Weights are compared by size only.

    For a JSONL file the error names the bad line if there is one. Files that `oel clean` removed are not checked; of
    those that `oel forget` changed the digest is the one since.
    """
    freed, altered = freed_files(folder), altered_files(folder)
    for name, entry in manifest.outputs.items():
        path = folder / name
        if name in freed and not path.exists():
            continue
        if not path.is_file():
            raise ArtifactError(f"{path} is missing: restore it, or delete {folder} and run again")
        same_size = path.stat().st_size == entry.bytes
        if same_size and (path.suffix in WEIGHTS or digest_file(path) == altered.get(name, entry.digest)):
            continue
        if path.suffix == ".jsonl":
            require_json_lines(path)
        raise ArtifactError(
            f"{path} was changed after its stage finished: restore it from a copy, or delete {folder} and run again"
        )
