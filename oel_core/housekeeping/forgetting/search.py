"""Where recorded conversations lie in an inbox or a run, and what each line of theirs becomes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from oel_core.housekeeping.forgetting.erasure import Edit
from oel_core.housekeeping.forgetting.wanted import Wanted
from oel_core.projects.inbox import INBOX, SOURCES, EpisodeSource, ForgottenEpisode, Received
from oel_core.projects.quarantine import REFUSED, LeftOut
from oel_core.projects.round_cases import RESERVED, Reserved
from oel_core.projects.round_inbox import GIVEN_BACK
from oel_core.rounds.context import TRAJECTORIES
from oel_core.runs.folder import RunFolder, round_name
from oel_core.runs.jsonl import read_jsonl
from oel_core.runs.manifest import freed_files
from oel_core.types import Trajectory

FORGOTTEN = "it was forgotten"
"""The error of an episode whose content was removed, which no stage learns from."""


@dataclass
class Found:
    """What of a folder is to be overwritten."""

    edits: list[Edit] = field(default_factory=list)
    episodes: int = 0
    undated: int = 0
    """Episodes that stay because nothing says when they were."""
    ids: dict[int, set[str]] = field(default_factory=dict)
    """Round → ids of its episodes; empty for an inbox."""


def in_inbox(inbox: Path, wanted: Wanted) -> Found:
    """The inbox's own lines, and copies of lines that were left out."""
    found = Found()
    for path in sorted(inbox.glob("*.jsonl")):
        _look_through(path, inbox, wanted, found)
    for path in sorted((inbox / REFUSED).glob("*.jsonl")):
        _look_through(path, inbox, wanted, found)
    return found


def in_run(run: RunFolder, wanted: Wanted) -> Found:
    """The copies that rounds have taken of an inbox's episodes."""
    found = Found()
    for index in run.rounds():
        folder = run.path / round_name(index)
        collected = run.stage_path(index, "collect")
        ids = _compacted(collected, folder / INBOX, wanted)
        for path in (folder / INBOX, folder / GIVEN_BACK, folder / RESERVED):
            _look_through(path, run.path, wanted, found)
        ids |= _look_through(collected / TRAJECTORIES, run.path, wanted, found)
        if ids:
            found.ids[index] = ids
    return found


def _compacted(collected: Path, inbox: Path, wanted: Wanted) -> set[str]:
    """The ids that a compacted round gave the conversations: its own episodes are gone, their sources are not."""
    if TRAJECTORIES not in freed_files(collected) or not inbox.is_file():
        return set()
    received = ((one.file, one.line, one.episode) for one in read_jsonl(inbox, Received))
    places = {(file, line) for file, line, episode in received if wanted.meets(episode.model_dump())}
    return {one.id for one in read_jsonl(collected / SOURCES, EpisodeSource) if (one.file, one.line) in places}


def _look_through(path: Path, folder: Path, wanted: Wanted, found: Found) -> set[str]:
    """Adds the lines of a file to `found`; the ids of its episodes among them."""
    if not path.is_file():
        return set()
    ids, written, name = set[str](), path.stat().st_mtime, path.relative_to(folder).as_posix()
    for offset, line in _whole_lines(path):
        try:
            value = from_json(line)
        except ValueError:
            continue
        if not isinstance(value, Mapping):
            continue
        if {"turns", "episode", "received"} & value.keys():
            text = _episode(line, value, wanted, found, in_inbox=path.parent == folder and path.name != INBOX)
            if text is not None:
                found.episodes += 1
                ids.add(str(value.get("id")))
        else:
            text = _copy(line, value, wanted, written)
        if text is not None:
            found.edits.append(Edit(file=name, offset=offset, bytes=len(line), text=text))
    return ids


def _whole_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Offset and bytes of each line that has an end, which is not part of them."""
    offset = 0
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield offset, line[:-1]
            offset += len(line)


def _episode(line: bytes, value: Mapping[str, Any], wanted: Wanted, found: Found, *, in_inbox: bool) -> str | None:
    """What a recorded episode's line becomes; None where it stays."""
    received = value.get("received", value)
    held = received.get("episode", value) if isinstance(received, Mapping) else None
    if not isinstance(held, Mapping) or held.get("error") == FORGOTTEN:
        return None
    if not wanted.meets(held):
        found.undated += wanted.before is not None and held.get("at") is None and _recorded(held)
        return None
    if in_inbox:
        return ForgottenEpisode(id=str(held.get("id"))).model_dump_json()
    try:
        if "received" in value:
            reserved = Reserved.model_validate_json(line)
            return reserved.model_copy(update={"received": _without_words(reserved.received)}).model_dump_json()
        if "episode" in value:
            return _without_words(Received.model_validate_json(line)).model_dump_json()
        return _emptied(Trajectory.model_validate_json(line)).model_dump_json()
    except ValidationError:
        return None  # no stage reads such a line either


def _recorded(episode: Mapping[str, Any]) -> bool:
    return bool(episode.get("session") or episode.get("user"))


def _without_words(received: Received) -> Received:
    return received.model_copy(update={"episode": _emptied(received.episode)})


def _emptied(episode: Trajectory) -> Trajectory:
    """The episode without anything that was said: a failed one, by which counts and ids stay as they were."""
    nothing: Sequence[Any] = ()
    changed = {"turns": nothing, "intro": "", "feedback": "", "session": "", "user": "", "error": FORGOTTEN}
    return episode.model_copy(update=changed)


def _copy(line: bytes, value: Mapping[str, Any], wanted: Wanted, written: float) -> str | None:
    if not isinstance(value.get("text"), str) or not value["text"] or not wanted.meets_copy(value["text"], written):
        return None
    try:
        return LeftOut.model_validate_json(line).model_copy(update={"text": ""}).model_dump_json()
    except ValidationError:
        return None
