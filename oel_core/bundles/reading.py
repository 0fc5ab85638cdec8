"""Reads and validates a bundle on the training side; recorded episodes are rejected."""

import hashlib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError
from pydantic_core import from_json

from oel_core.bundles.archive import lines_of, opened, sha256_of
from oel_core.bundles.recorded import recorded_fields, recorded_text
from oel_core.bundles.records import MANIFEST, PROMPTS, BundleKnowledge, BundleManifest, BundlePrompt
from oel_core.errors import ArtifactError
from oel_core.knowledge.store import paths
from oel_core.projects.inbox import not_a_prompt
from oel_core.runs.jsonl import LineError, parse_line
from oel_core.text.invalid import described
from oel_core.types import Record

R = TypeVar("R", bound=Record)
_REFUSED = "the training side takes no recorded episodes. Make the bundle with `oel bundle make`"


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk whose files have the digests in its manifest."""

    path: Path
    manifest: BundleManifest
    digest: str
    """SHA-256 of the manifest."""

    @classmethod
    def open(cls, path: Path, digest: str | None = None) -> "Bundle":
        """Reads the manifest and verifies the digest of every file.

        Args:
            digest: expected digest of the bundle; None: any.

        Raises:
            ArtifactError: there is no such file, it is no bundle, or a digest differs.
        """
        with opened(path) as archive:
            data = archive.read(MANIFEST)
            found = hashlib.sha256(data).hexdigest()
            if digest is not None and found != digest:
                raise ArtifactError(f"{path} has the digest {found}, not {digest}: ask its maker which is right")
            manifest = _parsed(path, MANIFEST, data, BundleManifest)
            _require_files(path, archive, manifest)
            return cls(path, manifest, found)

    def knowledge(self) -> list[BundleKnowledge]:
        """The knowledge files, in order.

        Raises:
            ArtifactError: a file is missing, is inconsistent with its text, or contains a recorded episode.
        """
        with opened(self.path) as archive:
            found = [self._knowledge(archive, replica) for replica in range(self.manifest.replicas)]
        if sum(len(entry.items) for entry in found) != self.manifest.items:
            raise ArtifactError(f"{self.path}: its files have another number of items than {MANIFEST} says")
        return found

    def _knowledge(self, archive: zipfile.ZipFile, replica: int) -> BundleKnowledge:
        text_path, sidecar = paths(Path(), replica)
        missing = [path.name for path in (text_path, sidecar) if path.name not in self.manifest.files]
        if missing:
            raise ArtifactError(f"{self.path} has no {missing[0]}, one of {self.manifest.replicas} knowledge files")
        entry = _parsed(self.path, sidecar.name, archive.read(sidecar.name), BundleKnowledge)
        text = "\n".join(item.text for item in entry.items)
        if entry.replica != replica or text.encode() != archive.read(text_path.name):
            raise ArtifactError(f"{self.path}: the items of {sidecar.name} do not make up {text_path.name}")
        wrong = "it is a raw episode" if any(item.format == "raw" for item in entry.items) else recorded_text(text)
        if wrong:
            raise ArtifactError(f"{self.path}: {text_path.name}: {wrong}: {_REFUSED}")
        return entry

    def prompts(self) -> Iterator[BundlePrompt]:
        """Iterates over the prompts; none in a bundle with knowledge only.

        Raises:
            ArtifactError: a line is no prompt, is out of order, or contains a recorded episode; the message names it.
        """
        if not self.manifest.prompts:
            return
        count, at = 0, (-1, -1)
        with opened(self.path) as archive:
            for count, line in enumerate(lines_of(self.path, archive, PROMPTS), start=1):
                try:
                    prompt = _prompt(line)
                    if prompt.episode not in (at[0], at[0] + 1) or (prompt.episode, prompt.turn) <= at:
                        raise LineError("episode", "it is out of order")
                except LineError as error:
                    raise ArtifactError(f"{self.path}: {PROMPTS}, line {count}: {error}") from error
                at = (prompt.episode, prompt.turn)
                yield prompt
        if (count, at[0] + 1) != (self.manifest.prompts, self.manifest.episodes):
            raise ArtifactError(
                f"{self.path}: {PROMPTS} has other numbers of prompts and episodes than {MANIFEST} says"
            )


def _require_files(path: Path, archive: zipfile.ZipFile, manifest: BundleManifest) -> None:
    there = set(archive.namelist()) - {MANIFEST}
    if there != manifest.files.keys():
        other = min(there ^ manifest.files.keys())
        raise ArtifactError(f"{path}: {other[:100]!a} is in the archive or in {MANIFEST}, not in both")
    wanted = {PROMPTS} if manifest.prompts else set()
    if {PROMPTS} & there != wanted:
        raise ArtifactError(f"{path}: {MANIFEST} says {manifest.prompts} prompts, which {PROMPTS} does not fit")
    for name, entry in manifest.files.items():
        if archive.getinfo(name).file_size != entry.bytes or sha256_of(archive, name) != entry.sha256:
            raise ArtifactError(f"{path}: {name} was changed after the bundle was made: copy the bundle again")


def _prompt(line: bytes) -> BundlePrompt:
    """Raises LineError if it is no prompt."""
    try:
        recorded = recorded_fields(from_json(line))
    except ValueError as error:
        raise LineError("", "it is not JSON") from error
    if recorded:
        raise LineError("", f"it holds the record of an episode (fields {', '.join(recorded)}): {_REFUSED}")
    prompt = parse_line(line, BundlePrompt)
    wrong = not_a_prompt(prompt.messages)
    if wrong:
        raise LineError("messages", wrong)
    for number, message in enumerate(prompt.messages):
        wrong = recorded_text(message.content)
        if wrong:
            raise LineError(f"messages.{number}.content", f"{wrong}: {_REFUSED}")
    return prompt


def _parsed(path: Path, name: str, data: bytes, kind: type[R]) -> R:
    try:
        recorded = recorded_fields(from_json(data))
        if recorded:
            fields = ", ".join(recorded)
            raise ArtifactError(f"{path}: {name} holds the record of an episode (fields {fields}): {_REFUSED}")
        return kind.model_validate_json(data, strict=True)
    except ValidationError as error:
        raise ArtifactError(f"{path}: {name}: {described(error, 'the file')}: run `oel bundle make` again") from error
    except ValueError as error:
        if isinstance(error, ArtifactError):
            raise
        raise ArtifactError(f"{path}: {name} is not JSON: make it with `oel bundle make`") from error
