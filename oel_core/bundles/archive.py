"""Writes reproducible zip archives and reads untrusted ones.

Members are read only under the names that a bundle can have; nothing is extracted to a path from the archive.
"""

import hashlib
import io
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from oel_core.bundles.records import MANIFEST, PROMPTS, README
from oel_core.errors import ArtifactError
from oel_core.runs.files import write_atomic, writing

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time of the zip format."""
MEMBER = re.compile(rf"{re.escape(MANIFEST)}|{re.escape(README)}|{re.escape(PROMPTS)}|knowledge_\d{{2,4}}\.(?:md|json)")
MAX_BYTES = {MANIFEST: 2**22, README: 2**20, PROMPTS: 2**33}
"""Maximum uncompressed bytes of a member."""
MAX_KNOWLEDGE_BYTES = 2**26
"""Maximum uncompressed bytes of a knowledge file and of one line of prompts."""


def write_archive(path: Path, files: Mapping[str, bytes]) -> None:
    """Writes the archive atomically.

    Raises:
        ArtifactError: a different file exists at `path`, or the disk is full.
    """
    packed = _packed(files)
    if path.exists() and not (path.is_file() and path.read_bytes() == packed):
        raise ArtifactError(f"{path} is there already and is something else: delete it, or name another --out")
    with writing(path):
        write_atomic(path, packed)


def _packed(files: Mapping[str, bytes]) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, data in sorted(files.items()):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_DEFLATED, 3, 0o100644 << 16
            archive.writestr(entry, data)
    return raw.getvalue()


@contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The open archive, after checking the names and sizes of its members.

    Raises:
        ArtifactError: it cannot be read, is no zip archive, is damaged, or has an unexpected member.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _require_members(path, archive)
            yield archive
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read ({error.strerror or error}): name a bundle") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:  # the last: unknown compression
        raise ArtifactError(f"{path} is no whole zip archive ({error}): copy the bundle again") from error


def _require_members(path: Path, archive: zipfile.ZipFile) -> None:
    names = [entry.filename for entry in archive.infolist()]
    for entry in archive.infolist():
        name = entry.filename
        shown = ascii(name[:100])
        if MEMBER.fullmatch(name) is None:
            raise ArtifactError(
                f"{path} holds {shown}, which is no part of a bundle: the training side takes knowledge and prompts "
                "only. Make it with `oel bundle make`"
            )
        most = MAX_BYTES.get(name, MAX_KNOWLEDGE_BYTES)
        if names.count(name) > 1 or entry.flag_bits & 1 or entry.file_size > most:
            raise ArtifactError(f"{path}: {shown} is there twice, encrypted, or larger than {most} bytes")
    if MANIFEST not in names:
        raise ArtifactError(f"{path} has no {MANIFEST}: it is no bundle. Make one with `oel bundle make`")


def sha256_of(archive: zipfile.ZipFile, name: str) -> str:
    """The SHA-256 of a member, read in blocks."""
    with archive.open(name) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # it has readinto


def lines_of(path: Path, archive: zipfile.ZipFile, name: str) -> Iterator[bytes]:
    """The lines of a member, one at a time.

    Raises:
        ArtifactError: a line is longer than `MAX_KNOWLEDGE_BYTES`, or the last one is incomplete.
    """
    with archive.open(name) as file:
        number = 0
        while line := file.readline(MAX_KNOWLEDGE_BYTES):
            number += 1
            if not line.endswith(b"\n"):
                raise ArtifactError(f"{path}: {name}, line {number} has no end within {MAX_KNOWLEDGE_BYTES} bytes")
            yield line
