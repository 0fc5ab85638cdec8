"""Copies of conversations in MLflow: transcripts of a round's episodes, and traces of the gateway's answers."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import PurePosixPath

from oel_core.runs.folder import RunFolder
from oel_core.types import Record
from tasks.tracking.client import IDS, Tracker, tracker_of
from tasks.tracking.settings import TrackingSettings
from tasks.tracking.traces import PROJECT

TRANSCRIPTS = "transcripts"


class InMlflow(Record):
    """What MLflow has of them."""

    transcripts: tuple[str, ...]
    """`round 1: transcripts/collect/won-....txt`"""
    traces: int


def forget_in_mlflow(
    settings: TrackingSettings,
    run: RunFolder,
    episodes: Mapping[int, Collection[str]],
    ids: Collection[str],
    before: float | None,
    *,
    remove: bool,
) -> InMlflow:
    """Looks for them in the project's MLflow runs and experiment and, if asked, removes them.

    Args:
        episodes: round → ids of its episodes and cases.
        ids: of sessions and persons, as episodes hold them; none: all.
        before: only traces that began before this, seconds since 1970; None: all.
    """
    if not (run.path / IDS).is_file():
        return InMlflow(transcripts=(), traces=0)
    tracker = tracker_of(settings, run)
    files = [(str(index), path) for index in episodes for path in _transcripts(tracker, index, episodes[index])]
    traces = sorted({id for filters in _filters(run.name, ids, before) for id in _traces(tracker, filters)})
    if remove:
        for name, path in files:
            tracker.delete_file(name, path)
        tracker.delete_traces(traces)
    return InMlflow(transcripts=tuple(f"round {name}: {path}" for name, path in files), traces=len(traces))


def _transcripts(tracker: Tracker, index: int, ids: Collection[str]) -> Iterator[str]:
    """Their names are `won-ID.txt` and `lost-ID.txt`."""
    for path in tracker.files(str(index), TRANSCRIPTS):
        if PurePosixPath(path).stem.partition("-")[2] in ids:
            yield path


def _filters(project: str, ids: Collection[str], before: float | None) -> Iterator[str]:
    ours = f"tags.`{PROJECT}` = '{project}'"
    if before is not None:
        ours += f" and trace.timestamp_ms < {int(before * 1000)}"
    if not ids:
        yield ours
    for id in sorted(ids):
        if "'" not in id:  # pseudonyms are hexadecimal; other ids are in no trace
            yield from (f"{ours} and tags.`oel.{whose}` = '{id}'" for whose in ("session", "user"))


def _traces(tracker: Tracker, filters: str) -> Iterator[str]:
    return (str(info["trace_id"]) for info in tracker.traces(filters))
