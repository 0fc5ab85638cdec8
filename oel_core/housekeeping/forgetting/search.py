"""Finds recorded conversations in an inbox or a run and computes the replacement of each line."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from oel_core.housekeeping.forgetting.erasure import Edit
from oel_core.housekeeping.forgetting.selection import Selection
from oel_core.projects.deployment import DEPLOYMENT
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
"""`error` of an episode whose content was removed; no stage uses it."""


@dataclass
class Found:
    """The edits of a folder."""

    edits: list[Edit] = field(default_factory=list)
    episodes: int = 0
    undated: int = 0
    """Episodes without a time, which are kept."""
    ids: dict[int, set[str]] = field(default_factory=dict)
    """Round → ids of its episodes; empty for an inbox."""
    sessions: set[str] = field(default_factory=set)
    """By which cases name them."""


def in_inbox(inbox: Path, selection: Selection) -> Found:
    """The inbox's own lines, and copies of lines that were left out."""
    found, ids = Found(), set[str]()
    for path in sorted(inbox.glob("*.jsonl")):
        ids |= _search_file(path, inbox, selection, found)
    for path in sorted((inbox / REFUSED).glob("*.jsonl")):
        _search_file(path, inbox, selection, found)
    for path in sorted((inbox / DEPLOYMENT).glob("*.jsonl")):
        found.edits += _followed(path, inbox, ids)
    return found


def _followed(path: Path, inbox: Path, ids: Collection[str]) -> Iterator[Edit]:
    """Late feedback on episodes, and shadow answers to their requests."""
    name, nothing = path.relative_to(inbox).as_posix(), ForgottenEpisode(id="").model_dump_json()
    for offset, line in _complete_lines(path):
        try:
            value = from_json(line)
        except ValueError:
            continue
        if isinstance(value, Mapping) and value.get("episode") in ids:
            yield Edit(file=name, offset=offset, bytes=len(line), text=nothing)


def in_run(run: RunFolder, selection: Selection) -> Found:
    """The copies that rounds have taken of an inbox's episodes."""
    found = Found()
    for index in run.rounds():
        folder = run.path / round_name(index)
        collected = run.stage_path(index, "collect")
        ids = _compacted(collected, folder / INBOX, selection)
        for path in (folder / INBOX, folder / GIVEN_BACK, folder / RESERVED):
            _search_file(path, run.path, selection, found)
        ids |= _search_file(collected / TRAJECTORIES, run.path, selection, found)
        if ids:
            found.ids[index] = ids
    return found


def _compacted(collected: Path, inbox: Path, selection: Selection) -> set[str]:
    """Ids of the conversations in a compacted round, whose episodes were removed, from `sources.jsonl`."""
    if TRAJECTORIES not in freed_files(collected) or not inbox.is_file():
        return set()
    received = ((one.file, one.line, one.episode) for one in read_jsonl(inbox, Received))
    places = {(file, line) for file, line, episode in received if selection.matches(episode.model_dump())}
    return {one.id for one in read_jsonl(collected / SOURCES, EpisodeSource) if (one.file, one.line) in places}


def _search_file(path: Path, folder: Path, selection: Selection, found: Found) -> set[str]:
    """Adds matching lines of a file to `found`; returns the ids of matching episodes."""
    if not path.is_file():
        return set()
    ids, written, name = set[str](), path.stat().st_mtime, path.relative_to(folder).as_posix()
    for offset, line in _complete_lines(path):
        try:
            value = from_json(line)
        except ValueError:
            continue
        if not isinstance(value, Mapping):
            continue
        if {"turns", "episode", "received"} & value.keys():
            text = _episode(line, value, selection, found, in_inbox=path.parent == folder and path.name != INBOX)
            if text is not None:
                found.episodes += 1
                ids.add(str(value.get("id")))
        else:
            text = _copy(line, value, selection, written)
        if text is not None:
            found.edits.append(Edit(file=name, offset=offset, bytes=len(line), text=text))
    return ids


def _complete_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Offset and bytes of each complete line, without the line break."""
    offset = 0
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield offset, line[:-1]
            offset += len(line)


def _episode(
    line: bytes, value: Mapping[str, Any], selection: Selection, found: Found, *, in_inbox: bool
) -> str | None:
    """The replacement of a recorded episode's line; None if it is kept."""
    received = value.get("received", value)
    held = received.get("episode", value) if isinstance(received, Mapping) else None
    if not isinstance(held, Mapping) or held.get("error") == FORGOTTEN:
        return None
    if selection.matches(held):
        found.sessions.add(str(held.get("session") or held.get("id")))
    else:
        recorded = bool(held.get("session") or held.get("user"))
        found.undated += recorded and selection.before is not None and held.get("at") is None
        return None
    if in_inbox:
        return ForgottenEpisode(id=str(held.get("id"))).model_dump_json()
    try:
        if "received" in value:
            reserved = Reserved.model_validate_json(line)
            return reserved.model_copy(update={"received": _without_content(reserved.received)}).model_dump_json()
        if "episode" in value:
            return _without_content(Received.model_validate_json(line)).model_dump_json()
        return _emptied(Trajectory.model_validate_json(line)).model_dump_json()
    except ValidationError:
        return None  # no stage reads such a line either


def _without_content(received: Received) -> Received:
    return received.model_copy(update={"episode": _emptied(received.episode)})


def _emptied(episode: Trajectory) -> Trajectory:
    """The episode without its content, marked as failed; it keeps its id, so counts stay valid."""
    nothing: Sequence[Any] = ()
    changed = {"turns": nothing, "intro": "", "feedback": "", "session": "", "user": "", "error": FORGOTTEN}
    return episode.model_copy(update=changed)


def _copy(line: bytes, value: Mapping[str, Any], selection: Selection, written: float) -> str | None:
    if (
        not isinstance(value.get("text"), str)
        or not value["text"]
        or not selection.matches_copy(value["text"], written)
    ):
        return None
    try:
        return LeftOut.model_validate_json(line).model_copy(update={"text": ""}).model_dump_json()
    except ValidationError:
        return None
