"""Replicates a run folder in a store.

A finished stage is uploaded before its folder gets its name: outputs first, its manifest last. So a stage in the store
is complete, and a killed or failed upload is repeated without doing the stage's work again. The other files of a run
(configuration, records of removed or changed files, reports) are uploaded with each stage and when the run is released;
the index, written after them, has their digests. A run is downloaded when it is opened: index and manifests first, then
the contents, compared with the digests.
"""

import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from oel_core.errors import ArtifactError, BusyError, OelError
from oel_core.runs.files import write_atomic
from oel_core.runs.lease import Lease, Waiting, ignore_wait, read_lease
from oel_core.runs.locks import exclusive_after_wait
from oel_core.runs.manifest import MANIFEST, Manifest, OutputFile, read_record
from oel_core.runs.processes import is_alive
from oel_core.runs.stored.claim import FOLDER, Claim, claimed
from oel_core.runs.stored.index import INDEX, Index, index_bytes, parse_index
from oel_core.runs.stored.local_files import LEASE, file_of, freed_outputs, indexed_files, stage_outputs
from oel_core.runs.stored.objects import ObjectStore
from oel_core.runs.stored.transfer import receive, send
from oel_core.runs.stored.working_copy import store_of

BASE = ".store-index.json"
"""In a run folder: the store's index when the folder was last equal to the store."""
Content = Literal["all", "without weights", "none"]
"""Which outputs of stages are downloaded; `none`: manifests and files outside of stages only."""
FETCHES, FETCH_PAUSE_S = 3, 1.0
"""Attempts to download a run for reading, and the pause between them, seconds."""
LOCK_PAUSE_S = 0.2

_HELD: dict[Path, "Claim"] = {}
"""Run folder → the claim by which this process holds the run."""


@dataclass(frozen=True)
class Replica:
    """A run folder and its copy in the store. All methods raise StoreError if the store does not answer."""

    path: Path
    store: ObjectStore

    @property
    def name(self) -> str:
        return self.path.name

    @contextmanager
    def held(self, purpose: str, *, wait_s: float = 0.0, on_wait: Waiting = ignore_wait) -> Iterator[None]:
        """Excludes processes on all machines during the block; downloads the run before it and uploads changes after.

        Raises:
            BusyError: another process holds the run.
            ArtifactError: as `fetch`.
        """
        claim = Claim(self.store, self.name)
        with claimed(claim, purpose, wait_s=wait_s, on_wait=on_wait):
            with self._alone():
                self._pull("all")
            _HELD[self.path] = claim
            try:
                yield
            except Exception:
                with suppress(OelError):  # the first error is the one to report
                    self._push_if_held()
                raise
            else:
                self._push_if_held()
            finally:
                _HELD.pop(self.path, None)

    def finish_stage(self, partial: Path, stage: str) -> None:
        """Uploads a stage that is complete in its working folder: outputs, then its manifest, then the index.

        Raises:
            BusyError: this process does not hold the run any more.
            ArtifactError: the store has the same stage with another manifest.
        """
        claim = self._claim()
        place, data = f"{self.name}/{stage}/{MANIFEST}", (partial / MANIFEST).read_bytes()
        found = self.store.read(place)
        if found is None:
            outputs = read_record(partial / MANIFEST, Manifest).outputs
            send(self.store, partial, f"{self.name}/{stage}", outputs, claim.require)
            claim.require()
            found = data if self.store.create(place, data) else self.store.read(place)
        if found != data:
            raise ArtifactError(
                f"{self.store.place(place)} is of another attempt at {stage} than {partial}: delete {partial} to use "
                "the one in the store"
            )
        self._push({f"{stage}/{MANIFEST}": file_of(partial / MANIFEST)})

    def fetch(self, content: Content) -> None:
        """Makes the folder equal to the store for reading. Nothing is done while a process of this machine holds it.

        Raises:
            ArtifactError: an object is damaged; or a stage is in the folder but not in the store, or differs.
        """
        for attempt in range(FETCHES):
            with self._alone():
                lease = read_lease(self.path / LEASE)
                if lease is not None and is_alive(lease.holder):
                    return
                try:
                    return self._pull(content)
                except ArtifactError:
                    if attempt == FETCHES - 1:
                        raise
            time.sleep(FETCH_PAUSE_S)  # its holder may have changed files while the index was read

    def bytes(self) -> int:
        """Size of the run's objects."""
        return sum(self.store.entries(self.name).values())

    def holder(self) -> tuple[Lease, float] | None:
        """Who holds the run, alive or not, and the seconds since the last renewal; None if nobody does."""
        claim = Claim(self.store, self.name)
        number, lease = claim.current()
        return None if lease is None else (lease, max(0.0, claim.age_s(number)))

    def remove(self) -> None:
        """Removes the run from the store: manifests first, so that an interrupted removal leaves no finished stage; the
        index last, so that it can be repeated."""
        claim = self._claim()
        claim.require()
        order = {INDEX: 2, "config.yaml": 1}
        paths = sorted(
            self.store.entries(self.name), key=lambda path: (order.get(path, 0), not path.endswith(MANIFEST))
        )
        self.store.delete(f"{self.name}/{path}" for path in paths if not path.startswith(f"{FOLDER}/"))
        claim.forget()
        del _HELD[self.path]

    def _claim(self) -> Claim:
        claim = _HELD.get(self.path)
        if claim is None:
            raise BusyError(f"{self.path} is the working copy of {self.store.place(self.name)}, which is not held")
        return claim

    def _alone(self) -> AbstractContextManager[None]:
        """Waits for other processes of this machine that download the run."""
        return exclusive_after_wait(self.path.with_name(f".{self.name}.fetch.lock"), pause_s=LOCK_PAUSE_S)

    def _pull(self, content: Content) -> None:
        """Makes the folder equal to the store, except for newer local files that were not uploaded yet."""
        entries = self.store.entries(self.name)
        index = self._index()
        manifests = [path for path in entries if path.endswith(f"/{MANIFEST}") and path.startswith("round_")]
        self._refuse_unknown(manifests, new=index is None)
        if index is None and not manifests:
            return
        files = {} if index is None else index.files
        outside = {path: file for path, file in files.items() if not path.endswith(f"/{MANIFEST}")}
        receive(self.store, self.path, self.name, self._changed(outside))
        for path in manifests:
            self._pull_stage(path, files.get(path), content)
        self._note(Index.of(files))

    def _push_if_held(self) -> None:
        if self.path in _HELD:  # it was not removed
            self._push({})

    def _push(self, finished: Mapping[str, OutputFile]) -> None:
        """Uploads the files of the index that have changed, then the index, then removes what was freed."""
        claim, before = self._claim(), self._base()
        files = {**indexed_files(self.path), **finished}
        changed = [path for path, file in files.items() if before.files.get(path) != file and path not in finished]
        freed = set(freed_outputs(self.path))
        index = Index.of({path: file for path, file in {**before.files, **files}.items() if path not in freed})
        if changed or index != before:
            loose = [path for path in changed if not path.endswith(f"/{MANIFEST}")]
            send(self.store, self.path, self.name, loose, claim.require)
            claim.require()
            self.store.write(f"{self.name}/{INDEX}", index_bytes(index))
            self._note(index)
        if freed and (left := freed & self.store.entries(self.name).keys()):
            claim.require()
            self.store.delete(f"{self.name}/{path}" for path in sorted(left))

    def _pull_stage(self, path: str, listed: OutputFile | None, content: Content) -> None:
        """Downloads what is missing of a stage, its manifest last."""
        manifest, folder = self.path / path, (self.path / path).parent
        partial = folder.with_name(f".{folder.name}.partial")
        if not manifest.exists() and (partial / MANIFEST).exists():
            return  # uploaded, but killed before the folder got its name: `finish_stage` compares the manifests
        beside = manifest.with_name(f".{MANIFEST}.fetched") if not manifest.exists() else manifest
        if beside != manifest:
            self._fetch_manifest(path, beside, listed)
        elif listed is not None and file_of(manifest) != listed:
            raise ArtifactError(
                f"{folder} differs from {self.store.place(f'{self.name}/{path}')}: delete the folder to use the stage "
                "in the store"
            )
        if content != "none":
            wanted = stage_outputs(folder, read_record(beside, Manifest), weights=content == "all")
            missing = {name: file for name, file in wanted.items() if _size(folder / name) != file.bytes}
            receive(self.store, folder, f"{self.name}/{path.removesuffix(f'/{MANIFEST}')}", missing)
        if beside != manifest:
            beside.rename(manifest)
            shutil.rmtree(partial, ignore_errors=True)  # begun here, finished by another machine

    def _fetch_manifest(self, path: str, target: Path, listed: OutputFile | None) -> None:
        data, place = self.store.read(f"{self.name}/{path}"), self.store.place(f"{self.name}/{path}")
        if data is None:
            raise ArtifactError(f"{place} was removed while the run was read: run the same command again")
        write_atomic(target, data)
        try:
            read_record(target, Manifest)
            damaged = listed is not None and file_of(target) != listed
        except ArtifactError:
            damaged = True
        if damaged:
            target.unlink()
            raise ArtifactError(f"{place} is damaged: restore an earlier version of it, or remove its stage there")

    def _changed(self, stored: Mapping[str, OutputFile]) -> dict[str, OutputFile]:
        """Files to download: missing ones, and those that were changed in the store since the last time.

        A file that was changed here only is newer than the store's: this process or one before it was killed before
        uploading it. A file changed in both is taken from the store, whose writer held the run later.
        """
        before = self._base().files
        found = {path: file_of(self.path / path) for path in stored if (self.path / path).is_file()}
        return {
            path: file
            for path, file in stored.items()
            if path not in found or (found[path] != file and before.get(path) != file)
        }

    def _refuse_unknown(self, manifests: list[str], *, new: bool) -> None:
        """Raises ArtifactError for finished stages that the store does not have: they were removed there."""
        here = [path.relative_to(self.path) for path in self.path.glob(f"round_*/**/{MANIFEST}")]
        finished = [path.as_posix() for path in here if not any(part.startswith(".") for part in path.parts)]
        unknown = sorted(set(finished) - set(manifests))
        was_there = new and (self.path / BASE).exists()
        if unknown or was_there:
            folder = self.path if new else (self.path / unknown[0]).parent
            what = "the run" if new else folder.relative_to(self.path).as_posix()
            raise ArtifactError(
                f"{what} is in the working copy {self.path}, but not in {self.store.place(self.name)} any more: it was "
                f"removed there. Delete {folder} to follow the store"
            )

    def _index(self) -> Index | None:
        place = f"{self.name}/{INDEX}"
        data = self.store.read(place)
        return None if data is None else parse_index(data, self.store.place(place))

    def _base(self) -> Index:
        path = self.path / BASE
        return parse_index(path.read_bytes(), str(path)) if path.exists() else Index.of({})

    def _note(self, index: Index) -> None:
        write_atomic(self.path / BASE, index_bytes(index))


def replica_of(path: Path) -> Replica | None:
    """The replica of a run folder below the working copy of a store; None for other folders."""
    store = store_of(path.parent)
    return None if store is None else Replica(path.resolve(), store)


def fetch_run(path: Path, content: Content) -> None:
    """Brings a run folder up to date for reading, if it is below the working copy of a store. Errors as `fetch`."""
    replica = replica_of(path)
    if replica is not None:
        replica.fetch(content)


def fetch_listing(root: Path) -> dict[str, int] | None:
    """Brings manifests and configurations of all runs below a root up to date; name → size in the store.

    None for a root that is not the working copy of a store. A run that cannot be read is logged as a warning.

    Raises:
        StoreError: the store does not answer.
    """
    store = store_of(root)
    if store is None:
        return None
    replicas = [Replica((root / name).resolve(), store) for name in store.folders()]
    sizes = {replica: size for replica in replicas if (size := replica.bytes())}  # removed runs may leave folders
    for replica in sizes:
        try:
            replica.fetch("none")
        except ArtifactError as error:
            logging.getLogger(__name__).warning("%s", error)
    return {replica.name: size for replica, size in sizes.items()}


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None
