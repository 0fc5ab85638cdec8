"""Writing files so that a kill at any moment leaves the old file or the new one, never half of one."""

import os
from pathlib import Path


def write_atomic(path: Path, data: bytes) -> None:
    """Writes `data` beside `path`, flushes it to the disk, then renames it into place.

    The folder is made when it is missing. A killed process may leave a hidden `.tmp` file behind; nothing reads it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
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
