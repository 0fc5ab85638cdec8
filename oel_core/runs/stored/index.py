"""`index.json` of a stored run: size and digest of every object except a stage's unchanged outputs, which the stage's
manifest has."""

from collections.abc import Mapping

from pydantic import ValidationError

from oel_core.errors import ArtifactError
from oel_core.runs.manifest import OutputFile, digest_bytes
from oel_core.types import Record

INDEX = "index.json"


class Index(Record):
    """The files of a run: manifests, files outside of stages, and outputs that were changed on purpose."""

    files: dict[str, OutputFile]
    """Path relative to the run's folder → size and digest."""
    digest: str
    """Of `files`."""

    @classmethod
    def of(cls, files: Mapping[str, OutputFile]) -> "Index":
        """The index of these files."""
        return cls(files=dict(sorted(files.items())), digest=_digest(files))


def index_bytes(index: Index) -> bytes:
    """The content of `index.json`."""
    return index.model_dump_json(indent=1).encode()


def parse_index(data: bytes, place: str) -> Index:
    """The index with this content. ArtifactError names `place` if the content is damaged."""
    try:
        index = Index.model_validate_json(data)
    except ValidationError as error:
        raise ArtifactError(f"{place} is damaged: restore an earlier version of the object") from error
    if index.digest != _digest(index.files):
        raise ArtifactError(f"{place} is damaged, its checksum is another: restore an earlier version of the object")
    return index


def _digest(files: Mapping[str, OutputFile]) -> str:
    lines = (f"{path}={file.bytes}={file.digest}" for path, file in sorted(files.items()))
    return digest_bytes("\n".join(lines).encode())
