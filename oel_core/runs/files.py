"""Writing files so that a kill at any moment leaves the old file or the new one, never half of one."""

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
"""The disk, the user's share of it, or the largest allowed file."""


def is_full(error: BaseException) -> bool:
    """Whether a write failed because the disk takes no more. safetensors says the system's number in words only."""
    said = re.search(r"\(os error (\d+)\)", str(error))
    number = error.errno if isinstance(error, OSError) else int(said[1]) if said else None
    return number in FULL


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """While something is written that a run can go on without.

    Raises:
        ArtifactError: the disk is full; the same call may succeed once it is not. Other errors pass.
    """
    try:
        yield
    except ArtifactError:
        raise  # told by what was called within
    except Exception as error:
        if not is_full(error):
            raise
        raise ArtifactError(
            f"{path} cannot be written, the disk is full ({error}): free some space and run the same command again, it "
            "goes on from what was finished"
        ) from error


@contextmanager
def filling(partial: Path) -> Iterator[None]:
    """While a folder is filled that will be renamed into place: if that fails, nothing of it stays. As `writing`."""
    try:
        with writing(partial):
            yield
    except Exception:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def write_atomic(path: Path, data: bytes) -> None:
    """Writes `data` beside `path`, flushes it to the disk, then renames it into place.

    The folder is made when it is missing. A killed process may leave a hidden `.tmp` file behind; nothing reads it.
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
    """Makes a rename inside `folder` survive a power cut. Systems that cannot open a folder skip it."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
