"""Copies several files between a folder and a store at once, and verifies what arrives."""

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from oel_core.errors import ArtifactError
from oel_core.runs.files import writing
from oel_core.runs.manifest import OutputFile, digest_file
from oel_core.runs.stored.objects import ObjectStore

AT_ONCE = 8
"""Transfers at the same time."""


def send(store: ObjectStore, folder: Path, prefix: str, names: Iterable[str], permit: Callable[[], None]) -> None:
    """Uploads files of a folder to objects of the same names below `prefix`; `permit` is called before each of them.

    Raises:
        StoreError: as `ObjectStore`, or what `permit` raises; the other transfers are not begun.
    """

    def upload(name: str) -> None:
        permit()
        store.upload(folder / name, f"{prefix}/{name}")

    _all(upload, sorted(names))


def receive(store: ObjectStore, folder: Path, prefix: str, files: Mapping[str, OutputFile]) -> None:
    """Downloads objects to files of the same names in a folder; a file appears when it is complete and verified.

    Raises:
        ArtifactError: an object is damaged, or the disk is full.
        StoreError: as `ObjectStore`, or an object is missing.
    """
    _all(lambda name: _fetch(store, f"{prefix}/{name}", folder / name, files[name]), sorted(files))


def _fetch(store: ObjectStore, path: str, target: Path, wanted: OutputFile) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        with writing(target):
            store.download(path, beside)
            size, digest = beside.stat().st_size, digest_file(beside)
            if (size, digest) != (wanted.bytes, wanted.digest):
                raise ArtifactError(
                    f"{store.place(path)} is damaged: it has {size} bytes with digest {digest}, its record says "
                    f"{wanted.bytes} bytes with digest {wanted.digest}. Restore an earlier version of the object, or "
                    "remove its stage from the store and run again"
                )
            os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)


def _all(act: Callable[[str], None], names: list[str]) -> None:
    """Calls `act` for all names, several at a time. Raises the first error; calls not begun by then are not made."""
    if not names:
        return
    with ThreadPoolExecutor(max_workers=min(AT_ONCE, len(names))) as pool:
        running = [pool.submit(act, name) for name in names]
        try:
            for one in running:
                one.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
