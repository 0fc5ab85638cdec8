"""Stage sharing between the runs of a study: a finished stage with the same key is reused.

A key covers every setting and input that affects a stage's result, so equal keys mean equal results. Files of finished
stages are immutable, so they are hard-linked, or copied if that is not possible.
"""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from oel_core.runs.files import sync_folder, write_atomic
from oel_core.runs.folder import MANIFEST, RunFolder, Work
from oel_core.runs.manifest import Manifest, StageKey, read_record

SHARED = "shared.json"
"""In a run folder: stage → the run that executed it."""


@dataclass(frozen=True)
class SharingFolder(RunFolder):
    """A run folder that reuses finished stages of sibling runs."""

    donors: tuple[str, ...] = ()
    """Names of runs in the same folder, searched in this order."""

    def perform(self, key: StageKey, work: Work) -> Manifest:
        """As `RunFolder.perform`; a donor's finished stage with the same key is reused."""
        final = self.path / key.stage
        if not final.exists():
            donor = next((name for name in self.donors if _has(self.path.parent / name, key)), None)
            if donor is not None:
                _note(self.path, key.stage, donor)
                _take_over(self.path.parent / donor / key.stage, final)
        return super().perform(key, work)


def shared_stages(run: RunFolder) -> dict[str, str]:
    """Reused stage → the run that executed it."""
    path = run.path / SHARED
    found: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def _has(donor: Path, key: StageKey) -> bool:
    path = donor / key.stage / MANIFEST
    if not path.exists():
        return False
    manifest = read_record(path, Manifest)
    return manifest.key == key


def _note(run: Path, stage: str, donor: str) -> None:
    known = shared_stages(RunFolder(run))
    write_atomic(run / SHARED, (json.dumps(known | {stage: donor}, indent=1, sort_keys=True) + "\n").encode())


def _take_over(source: Path, final: Path) -> None:
    """Atomic under a kill: the manifest is written last."""
    beside = final.with_name(f".{final.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    for file in _files(source):
        target = beside / file.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file, target)
        except OSError:
            shutil.copy2(file, target)
    os.replace(beside, final)
    sync_folder(final.parent)


def _files(folder: Path) -> Iterator[Path]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    return iter(sorted(found, key=lambda path: (path == folder / MANIFEST, path)))
