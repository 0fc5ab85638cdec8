"""Read offsets of a project's inbox, and episodes returned by failed rounds.

A round that failed because of single episodes moves these to the quarantine and returns the others: the next round
takes them before new ones.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pydantic import Field

from oel_core.config.run import OelConfig
from oel_core.projects.deployment import late_feedback, rated_again
from oel_core.projects.inbox import INBOX, SOURCES, EpisodeSource, NewExperience, Received, Require, new_experience
from oel_core.projects.quarantine import LeftOut, left_out_lines, quarantine
from oel_core.rounds.round import Round
from oel_core.runs.files import write_atomic
from oel_core.runs.folder import RunFolder, round_name
from oel_core.runs.jsonl import jsonl_bytes, read_jsonl
from oel_core.runs.manifest import read_optional
from oel_core.runs.round_start import last_begun, read_start
from oel_core.types import Record

READ_TO, GIVEN_BACK = "inbox_read_to.json", "given_back.jsonl"
_EPISODE = re.compile(r"r\d{2,}-[a-z]+-k\d{2,}-e\d{4,}")


class ReadTo(Record):
    """`inbox_read_to.json` in a project: offsets of a read in which no line was usable, so no round records them."""

    bytes: dict[str, int] = Field(default_factory=dict)
    """File of the inbox → offset, bytes."""


def write_read_to(run: RunFolder, read_to: Mapping[str, int]) -> None:
    """Stores the project's read offsets."""
    write_atomic(run.path / READ_TO, ReadTo(bytes=dict(read_to)).model_dump_json(indent=1).encode())


def inbox_read_to(run: RunFolder) -> Mapping[str, int]:
    """The project's read offset in each file of its inbox, bytes."""
    noted = read_optional(run.path / READ_TO, ReadTo)
    read = dict(noted.bytes) if noted is not None else {}
    for index in run.rounds():
        start = read_start(run, index)
        for name, end in (start.inbox_read_to if start is not None else {}).items():
            read[name] = max(end, read.get(name, 0))
    return read


def read_inbox(config: OelConfig, run: RunFolder, require: Require) -> NewExperience:
    """The episodes for the next round: returned by the last one, and new, with the feedback that came since.

    Unusable lines go to the quarantine.

    Raises:
        ArtifactError: the inbox cannot be read, or the copies cannot be written.
    """
    assert config.experience.inbox is not None  # the caller has asked
    inbox, begin = Path(config.experience.inbox), inbox_read_to(run)
    found = new_experience(inbox, begin, config.environment.name, require)
    for file in sorted({one.file for one in found.left_out}):
        lines = [one for one in found.left_out if one.file == file]
        quarantine(inbox, f"{run.name}-{Path(file).stem}-from-byte-{begin.get(file, 0)}", lines)
    given_back = run.path / round_name(last_begun(run)) / GIVEN_BACK
    again = list(read_jsonl(given_back, Received)) if given_back.exists() else []
    late = late_feedback(inbox)
    received = [one.model_copy(update={"episode": rated_again(one.episode, late)}) for one in [*again, *found.received]]
    return replace(found, received=received, rated_late=sum(one.episode.id in late for one in received))


def set_aside(round: Round, why: str) -> list[str]:
    """Moves the inbox episodes that a failed round names in `why` to the quarantine, and returns the others.

    Returns them as lines of text; none where the round names none, or has no inbox. In this case its episodes are not
    returned to later rounds, so that the next round does not fail in the same way.

    Raises:
        ArtifactError: the copies cannot be written.
    """
    inbox, sources = round.config.experience.inbox, round.stage("collect").path / SOURCES
    if inbox is None or not sources.exists():
        return []
    named = set(_EPISODE.findall(why))
    found = {(one.file, one.line) for one in read_jsonl(sources, EpisodeSource) if one.id in named}
    if not found:
        return []
    received = list(read_jsonl(round.path / INBOX, Received))
    bad = [one for one in received if (one.file, one.line) in found]
    reason = f"round {round.number} failed because of it"
    left_out = [
        LeftOut(file=one.file, line=one.line, field="", reason=reason, text=one.episode.model_dump_json())
        for one in bad
    ]
    quarantine(Path(inbox), f"{round.run.name}-{round.path.name}", left_out)
    good = [one for one in received if (one.file, one.line) not in found]
    write_atomic(round.path / GIVEN_BACK, jsonl_bytes(good))
    return left_out_lines(left_out)
