"""Removes transcripts from finished rounds; models, manifests, knowledge and metrics are kept.

Removed from a compacted round: collected episodes, raw extractor outputs, episodes of trials and of scored knowledge,
and partial stages with their optimiser states. Evaluations keep every episode's outcome (`oel_core.rounds.outcomes`).
Manifests are unchanged, so digests that later stages depend on stay valid; `freed.json` beside them lists the removed
files. Every step leaves a valid run; after a kill the next call removes the rest.

The round's copies of inbox sessions (`inbox.jsonl`, `reserved.jsonl`) are kept, since new sessions are compared with
them; `oel forget` removes those.
"""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from oel_core.housekeeping.cleaning import require_alone
from oel_core.housekeeping.listing import size_of
from oel_core.projects.triggers import outcome_of
from oel_core.rounds.context import EPISODES, TRAJECTORIES
from oel_core.rounds.outcomes import OUTCOMES, without_texts
from oel_core.runs.files import write_atomic
from oel_core.runs.folder import MANIFEST, RunFolder, round_name
from oel_core.runs.jsonl import jsonl_bytes, read_jsonl
from oel_core.runs.manifest import Freed, digest_bytes, record_freed
from oel_core.runs.round_start import last_begun, read_start
from oel_core.stages.extract import ITEMS, RAW, STATES
from oel_core.types import Record, Trajectory

_TRANSCRIPTS = {
    "collect": (TRAJECTORIES,),
    "extract": (RAW, ITEMS, STATES),
    "select": (EPISODES,),
    "saturation": (EPISODES,),
    "evaluate": (EPISODES,),
    "gate": ("*.jsonl",),
    "gate_against": ("*.jsonl",),
}
"""Stage → names of the files to remove."""


class Shrinkable(Record):
    """One round that can be compacted."""

    run: str
    round: int
    files: tuple[str, ...]
    """Files, and folders of partial stages, to remove; relative to the run's folder."""
    bytes: int
    """Freed disk space."""


def compactable(run: RunFolder, keep: int) -> list[Shrinkable]:
    """The finished rounds except round 0 and the newest `keep`, with what can be removed from each.

    Args:
        run: must not belong to a study, whose runs share files.
        keep: at least 1.

    Raises:
        ConfigError: the run belongs to a study.
        ArtifactError: the episodes of an evaluation are damaged.
    """
    require_alone(run)
    last = last_begun(run)
    rounds = [index for index in run.rounds() if 0 < index <= last - keep and _is_over(run, index)]
    return [found for index in rounds if (found := _shrinkable(run, index)).files]


def compact(run: RunFolder, found: Sequence[Shrinkable]) -> None:
    """Removes the results of `compactable`. Requires the lease, held since that call."""
    for path in (run.path / name for one in found for name in one.files):
        if path.is_dir():
            shutil.rmtree(path)
            continue
        stage = next(parent for parent in path.parents if (parent / MANIFEST).exists())
        left = {}
        if _is_measured(run, path):
            data = _outcomes(path)
            write_atomic(path.with_name(OUTCOMES), data)
            left = {OUTCOMES: digest_bytes(data)}
        record_freed(stage, Freed(files=(path.relative_to(stage).as_posix(),), at=time.time(), left=left))
        path.unlink()


def _is_over(run: RunFolder, index: int) -> bool:
    """A round of `oel run` is finished when a later one has started, which `compactable` ensures."""
    return outcome_of(run, index) is not None or read_start(run, index) is None


def _shrinkable(run: RunFolder, index: int) -> Shrinkable:
    folder = run.path / round_name(index)
    partial = [path for path in folder.rglob(".*.partial") if path.is_dir()]
    spoken = [path for stage in run.stages(index) for path in _spoken(run, stage)]
    names = tuple(path.relative_to(run.path).as_posix() for path in [*partial, *spoken])
    frees = sum(map(size_of, partial)) + sum(_frees(run, path) for path in spoken)
    return Shrinkable(run=run.name, round=index, files=names, bytes=frees)


def _spoken(run: RunFolder, stage: Path) -> list[Path]:
    """The existing transcript files of a finished stage."""
    names = _TRANSCRIPTS.get(stage.relative_to(run.path).parts[1], ())
    return sorted(path for name in names for path in stage.rglob(name))


def _frees(run: RunFolder, path: Path) -> int:
    """Bytes of a file, minus those of its replacement."""
    left = len(_outcomes(path)) if _is_measured(run, path) else 0
    return max(0, path.stat().st_size - left)


def _is_measured(run: RunFolder, path: Path) -> bool:
    return path.relative_to(run.path).parts[1] == "evaluate"


def _outcomes(path: Path) -> bytes:
    return jsonl_bytes(without_texts(episode) for episode in read_jsonl(path, Trajectory))
