"""The sessions of a project's inbox that a round holds out as cases, and the round's frozen set.

`reserved.jsonl` in a round's folder holds the sessions that are not trained on, `cases.jsonl` the set on which the
round's models are measured. Both are written before the round is registered, so after a kill they are written again.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from oel_core.cases.case import Case
from oel_core.cases.division import AssignedSession, divide
from oel_core.cases.frozen import CASES, read_cases, rotated, write_cases
from oel_core.cases.known import cases_of
from oel_core.config.run import OelConfig
from oel_core.projects.inbox import INBOX, Received
from oel_core.runs.files import write_atomic
from oel_core.runs.folder import RunFolder, round_name
from oel_core.runs.jsonl import jsonl_bytes, read_jsonl
from oel_core.runs.manifest import read_optional
from oel_core.types import Record

RESERVED, RETIRED = "reserved.jsonl", "retired_cases.json"


class Reserved(Record):
    """A line of `reserved.jsonl`: a session that no round trains on."""

    place: Literal["held_out", "validation", "aside"]
    """`aside`: related to both training and held-out sessions, so used for neither."""
    received: Received


class Retired(Record):
    """`retired_cases.json` in a project: cases of forgotten conversations, on which no later round is measured."""

    ids: tuple[str, ...] = ()


def retire_cases(run: RunFolder, ids: Iterable[str]) -> None:
    """Keeps cases out of the sets of later rounds. Requires the project's lease."""
    path = run.path / RETIRED
    known = set((read_optional(path, Retired) or Retired()).ids)
    new = known | set(ids)
    if new != known:
        write_atomic(path, Retired(ids=tuple(sorted(new))).model_dump_json(indent=1).encode())


def set_apart(config: OelConfig, run: RunFolder, number: int, received: Sequence[Received]) -> list[Received]:
    """Writes the round's reserved sessions and its set of cases; returns the sessions to train on.

    Raises:
        ArtifactError: a file of an earlier round is damaged.
    """
    settings = config.evaluate.cases
    episodes = [one.episode for one in received]
    places = divide(episodes, _earlier(run, number), settings, config.seed)
    assigned = list(zip(received, places, strict=True))
    new = [
        case
        for one, place in assigned
        if place == "held_out" or place == "validation"
        for case in cases_of(one.episode, one.episode.session or one.episode.id, place, number)
    ]
    most = max(settings.episodes, config.knowledge.selection.episodes, config.knowledge.saturation.episodes)
    folder = run.path / round_name(number)
    reserved = [Reserved(place=place, received=one) for one, place in assigned if place != "training"]
    write_atomic(folder / RESERVED, jsonl_bytes(reserved))
    write_cases(folder / CASES, rotated(new, _latest(run, number), most))
    return [one for one, place in assigned if place == "training"]


def _earlier(run: RunFolder, number: int) -> Iterator[AssignedSession]:
    """Every session of the rounds before but forgotten ones: an inbox that was read without cases was trained on."""
    for index in (index for index in run.rounds() if 0 < index < number):
        folder = run.path / round_name(index)
        if (folder / INBOX).exists():
            for trained in read_jsonl(folder / INBOX, Received):
                if trained.episode.turns:
                    yield AssignedSession.of(trained.episode, "training")
        if (folder / RESERVED).exists():
            for kept in read_jsonl(folder / RESERVED, Reserved):
                if kept.received.episode.turns:
                    yield AssignedSession.of(kept.received.episode, kept.place)


def _latest(run: RunFolder, number: int) -> list[Case]:
    """The newest set of the rounds before, without retired cases."""
    paths = [run.path / round_name(index) / CASES for index in run.rounds() if index < number]
    found = [path for path in paths if path.exists()]
    retired = set((read_optional(run.path / RETIRED, Retired) or Retired()).ids)
    return [case for case in read_cases(found[-1]) if case.id not in retired] if found else []
