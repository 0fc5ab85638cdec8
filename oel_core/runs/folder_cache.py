"""A folder cache that parallel processes can share: an entry is built in a temporary folder and renamed into place."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from oel_core.errors import EnvironmentError_


def cache_root(kind: str) -> Path:
    """Folder for entries of a kind: `$OEL_CACHE/<kind>`, or `~/.cache/oel/<kind>`."""
    configured = os.environ.get("OEL_CACHE")
    return (Path(configured) if configured else Path.home() / ".cache" / "oel") / kind


def cached_folder(root: Path, key: str, build: Callable[[Path], None]) -> Path:
    """The folder `root/key`, filled by `build(empty folder)` if it does not exist.

    An entry appears only when it is complete. If two processes build the same one, the first rename wins and the other
    copy is deleted.

    Raises:
        EnvironmentError_: the cache cannot be written.
    """
    entry = root / key
    if entry.is_dir():
        return entry
    try:
        root.mkdir(parents=True, exist_ok=True)
        workplace = Path(tempfile.mkdtemp(prefix=f".{key}-", dir=root))
    except OSError as error:
        raise EnvironmentError_(
            f"cannot write the cache {root}: {error}. Set OEL_CACHE to a writable folder"
        ) from error
    try:
        build(workplace)
        _rename(workplace, entry)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)
    return entry


def _rename(workplace: Path, entry: Path) -> None:
    try:
        workplace.rename(entry)
    except OSError as error:
        if not entry.is_dir():
            raise EnvironmentError_(f"cannot write the cache entry {entry}: {error}") from error
