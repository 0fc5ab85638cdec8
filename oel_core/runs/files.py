"""Atomic writes: a process killed at any moment leaves the old file or the new one, never a part of one."""

import errno
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from oel_core.errors import ArtifactError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of a full disk, an exceeded quota, and a file over the largest allowed size."""


def is_full(error: BaseException) -> bool:
    """Whether a write failed because the disk is full. safetensors gives the error number only in its message."""
    said = re.search(r"\(os error (\d+)\)", str(error))
    number = error.errno if isinstance(error, OSError) else int(said[1]) if said else None
    return number in FULL


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Context of a write whose failure a resumed run can repeat.

    Raises:
        ArtifactError: the disk is full; the same call may succeed later. Other errors are re-raised.
    """
    try:
        yield
    except ArtifactError:
        raise  # already explained by the inner call
    except Exception as error:
        if not is_full(error):
            raise
        raise ArtifactError(
            f"{path} cannot be written, the disk is full ({error}): free some space and run the same command again; it "
            "resumes after the last finished work"
        ) from error


@contextmanager
def filling(partial: Path) -> Iterator[None]:
    """Context of filling a folder that is renamed into place afterwards; removes the folder on failure. Raises as
    `writing`."""
    try:
        with writing(partial):
            yield
    except Exception:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def write_atomic(path: Path, data: bytes) -> None:
    """Writes `data` to a temporary file beside `path`, flushes it to the disk, and renames it into place.

    Creates the folder if it is missing. A killed process may leave a hidden `.tmp` file, which nothing reads.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes a rename inside `folder` durable against a power failure; a no-op on systems that cannot open a folder."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
