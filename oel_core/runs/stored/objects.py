"""Objects of a store through fsspec, the only module that imports it.

Requires of a store: reads and listings see completed writes (S3, Google Cloud Storage and Azure guarantee this), and an
object can be created on condition that it does not exist (`If-None-Match: *`). Nothing is renamed. Every operation is
repeated with growing pauses when it fails.
"""

import os
import re
import time
import uuid
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from oel_core.config.urls import without_secrets
from oel_core.errors import ConfigError, StoreError
from oel_core.runs.files import is_full, write_atomic

PROTOCOLS = {"s3": "s3", "gs": "gs", "az": "az", "file": None, "memory": None}
"""Scheme of a URL → the extra of this package that supports it."""
PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Pauses between the attempts of one operation, seconds."""
_PERMANENT = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, NotImplementedError)
"""Errors that another attempt would repeat; fsspec raises the last one for an operation that a store does not have."""
_NO_CREDENTIALS = (
    "NoCredentialsError",
    "PartialCredentialsError",
    "DefaultCredentialsError",
    "ClientAuthenticationError",
)
_OPTIONS: dict[str, dict[str, Any]] = {"s3": {"config_kwargs": {"retries": {"total_max_attempts": 1}}}}
"""Options of file systems. S3: s3fs repeats each request a few times itself, and botocore would, with pauses, each of
these times: a lost connection would be noticed after minutes."""
_SECRET = re.compile(r"KEY|SECRET|TOKEN|PASSW|CREDENTIAL|CONNECTION_STRING")
_MAX_REASON = 300

T = TypeVar("T")


def check_store_url(url: str) -> str:
    """The URL of a run root in a store, without a slash at its end.

    Raises:
        ConfigError: it is of an unknown kind, contains credentials, or is not a place that objects can be below.
    """
    scheme, _, rest = url.partition("://")
    shown = f"{scheme}://..." if "@" in rest else without_secrets(url)
    if scheme not in PROTOCOLS:
        known = ", ".join(f"{name}://" for name in PROTOCOLS)
        raise ConfigError(f"{shown}: known are {known} and folders")
    if "@" in rest or "?" in rest or "#" in rest:
        raise ConfigError(
            f"{shown}: a store's address holds no user, password or query: set credentials in the environment, "
            "like AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    parts = [part for part in rest.split("/") if part]
    if not parts or ".." in parts or (scheme == "file" and not rest.startswith("/")):
        raise ConfigError(f"{shown}: name a bucket and a folder in it, like s3://bucket/runs or file:///mnt/runs")
    return f"{scheme}://{'/' if rest.startswith('/') else ''}{'/'.join(parts)}"


class ObjectStore:
    """The objects below one URL, addressed by their path below it, like `lake/round_01/collect/manifest.json`.

    All methods raise StoreError when the store does not answer or refuses; ConfigError if its package is missing.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._files, self._base = _opened(url)

    def place(self, path: str) -> str:
        """The object's URL."""
        return f"{self.url}/{path}"

    def read(self, path: str) -> bytes | None:
        """The object's content; None if it does not exist."""
        return self._tried("read", path, lambda: self._content(path))

    def write(self, path: str, data: bytes) -> None:
        """Writes an object, whether it exists or not."""
        self._tried("written", path, lambda: self._write(path, data))

    def create(self, path: str, data: bytes) -> bool:
        """Writes an object that does not exist; False if it does, with other content.

        A write whose answer was lost counts as done, so `data` should not be equal to that of other writers.
        """

        def act() -> bool:
            try:
                self._create(path, data)
            except Exception:
                found = self._content(path)
                if found is None:
                    raise
                return found == data
            return True

        return self._tried("written", path, act)

    def require_conditions(self, folder: str) -> None:
        """Creates an object twice below `folder`, and removes it. StoreError if the store accepts the second."""
        path = f"{folder}/probe-{uuid.uuid4().hex}"
        try:
            if self.create(path, b"first") and not self.create(path, b"second"):
                return
        finally:
            self.delete([path])
        raise StoreError(
            f"{self.url}: the store creates an object that exists, so it cannot keep two machines off one run. Use a "
            "version of it with conditional writes (If-None-Match for S3 and Azure, ifGenerationMatch for Google Cloud)"
        )

    def upload(self, source: Path, path: str) -> None:
        """Copies a local file to the store and compares the sizes."""
        self._tried("written", path, lambda: self._upload(source, path))

    def download(self, path: str, target: Path) -> None:
        """Copies an object to a local file, which is not complete after an error. StoreError if it does not exist."""
        self._tried("read", path, lambda: self._files.get_file(self._full(path), str(target)))

    def delete(self, paths: Iterable[str]) -> None:
        """Removes objects, in this order; those that do not exist are left out."""
        for path in paths:
            self._tried("removed", path, partial(self._delete, path))

    def entries(self, prefix: str) -> dict[str, int]:
        """Objects below a path: path relative to it → size in bytes."""
        found = self._tried("listed", prefix, lambda: self._find(prefix))
        start = len(self._full(prefix)) + 1
        return {name[start:]: int(info["size"] or 0) for name, info in found.items() if info["type"] == "file"}

    def folders(self) -> list[str]:
        """Names of the folders at the top level."""
        found = self._tried("listed", "", self._top)
        return sorted(str(info["name"]).rstrip("/").rpartition("/")[2] for info in found if info["type"] == "directory")

    def age_s(self, path: str) -> float:
        """Seconds since an object was written, by this machine's clock."""
        return time.time() - float(
            self._tried("read", path, lambda: self._files.modified(self._full(path))).timestamp()
        )

    def _full(self, path: str) -> str:
        return f"{self._base}/{path}" if path else self._base

    def _content(self, path: str) -> bytes | None:
        try:
            return bytes(self._files.cat_file(self._full(path)))
        except FileNotFoundError:
            return None

    def _write(self, path: str, data: bytes) -> None:
        self._files.pipe_file(self._full(path), data)

    def _create(self, path: str, data: bytes) -> None:
        self._files.pipe_file(self._full(path), data, mode="create")

    def _upload(self, source: Path, path: str) -> None:
        self._files.put_file(str(source), self._full(path))
        arrived, sent = int(self._files.info(self._full(path))["size"]), source.stat().st_size
        if arrived != sent:
            raise OSError(f"{arrived} of {sent} bytes arrived")

    def _delete(self, path: str) -> None:
        try:
            self._files.rm_file(self._full(path))
        except FileNotFoundError:
            return

    def _find(self, prefix: str) -> dict[str, Any]:
        try:
            return dict(self._files.find(self._full(prefix), detail=True))
        except FileNotFoundError:
            return {}

    def _top(self) -> list[dict[str, Any]]:
        try:
            return list(self._files.ls(self._base, detail=True))
        except FileNotFoundError:
            return []

    def _tried(self, verb: str, path: str, act: Callable[[], T]) -> T:
        """The result of `act`, repeated after errors that may pass."""
        for pause in (*PAUSES_S, None):
            try:
                return act()
            except Exception as error:
                if is_full(error) and verb == "read":
                    raise  # the local disk; explained by the caller
                if pause is None or isinstance(error, _PERMANENT) or type(error).__name__ in _NO_CREDENTIALS:
                    raise StoreError(self._problem(verb, path, error, pause is None)) from error
            time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _problem(self, verb: str, path: str, error: Exception, gave_up: bool) -> str:
        place, reason = self.place(path), _reason(error)
        if gave_up:
            return (
                f"{place} cannot be {verb} after {len(PAUSES_S) + 1} attempts ({reason}): check the connection to the "
                "store and run the same command again; finished work is kept"
            )
        if isinstance(error, FileNotFoundError):
            return f"{place} cannot be {verb} ({reason}): create the bucket, or restore the object from a copy"
        return f"{place} cannot be {verb} ({reason}): check the store's credentials, address and permissions"


class FileStore(ObjectStore):
    """A folder used as a store, such as a network mount. Writes are atomic; so is creation, by a hard link."""

    def _write(self, path: str, data: bytes) -> None:
        write_atomic(Path(self._full(path)), data)

    def _create(self, path: str, data: bytes) -> None:
        target = Path(self._full(path))
        beside = target.with_name(f".{target.name}.{os.getpid()}.{time.monotonic_ns()}.tmp")
        write_atomic(beside, data)
        try:
            os.link(beside, target)
        finally:
            beside.unlink(missing_ok=True)

    def _upload(self, source: Path, path: str) -> None:
        Path(self._full(path)).parent.mkdir(parents=True, exist_ok=True)
        super()._upload(source, path)


def object_store(url: str) -> ObjectStore:
    """The store below a URL of `check_store_url`. Does not connect yet. ConfigError if its package is missing."""
    return FileStore(url) if url.startswith("file://") else ObjectStore(url)


def _opened(url: str) -> tuple[Any, str]:
    """fsspec's file system, which keeps no listings, and the base path in it."""
    scheme = urlsplit(url).scheme
    try:
        from fsspec.core import url_to_fs

        files, base = url_to_fs(url, use_listings_cache=False, **_OPTIONS.get(scheme, {}))
    except ImportError as error:
        extra = PROTOCOLS[scheme] or "s3"
        raise ConfigError(f"{scheme}:// needs one more package ({error}): pip install 'oel[{extra}]'") from error
    return files, str(base)


def _reason(error: Exception) -> str:
    """An error of a foreign library in one line, without values of variables that hold secrets."""
    text = without_secrets(" ".join(str(error).split()))
    for name, value in os.environ.items():
        if len(value) >= 8 and _SECRET.search(name.upper()):
            text = text.replace(value, "***")
    return f"{type(error).__name__}: {text}"[:_MAX_REASON]
