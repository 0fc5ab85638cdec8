"""The local working copy of a run root in a store: a folder under the cache with `.store.json`, which names the store.

Models, databases and training need local files. A run folder below such a root is replicated; everything else about it
is as for any other run folder.
"""

import os
import re
from functools import lru_cache
from pathlib import Path

from oel_core.runs.files import write_atomic
from oel_core.runs.folder_cache import cache_root
from oel_core.runs.manifest import digest_bytes, read_optional
from oel_core.runs.stored.objects import ObjectStore, check_store_url, object_store
from oel_core.types import Record

STORE = ".store.json"
"""In the root of a working copy."""


class StoreAddress(Record):
    """`.store.json`."""

    url: str


def working_copy(url: str) -> Path:
    """The folder in which runs of a store are worked on, created if it is missing: under `$OEL_CACHE/stores`.

    Raises:
        ConfigError: as `check_store_url`.
    """
    checked = check_store_url(url)
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", checked.partition("://")[2]).strip("-")[:60]
    root = cache_root("stores") / f"{slug}-{digest_bytes(checked.encode())[:8]}"
    if not (root / STORE).exists():
        write_atomic(root / STORE, StoreAddress(url=checked).model_dump_json().encode())
    return root


def store_url(root: Path) -> str | None:
    """URL of the store that a root is the working copy of; None for an ordinary root."""
    found = read_optional(root / STORE, StoreAddress)
    return None if found is None else check_store_url(found.url)


def store_of(root: Path) -> ObjectStore | None:
    """The store that a root is the working copy of; None for an ordinary root."""
    url = store_url(root)
    return None if url is None else _store(url, os.getpid())


@lru_cache(maxsize=8)
def _store(url: str, pid: int) -> ObjectStore:
    """One per process, since connections do not survive a fork."""
    return object_store(url)
