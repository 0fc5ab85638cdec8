"""Triggers of a recurring round: what was asked under which id, and what came of it. The same id, the same outcome.

Everything is decided from files of the run and handed in facts about the registry, so any process can go on with it.
"""

import hashlib
import re
import time
from pathlib import Path
from typing import Literal

from oel_core.artifacts import RunFolder, round_name
from oel_core.config import OelConfig
from oel_core.errors import ArtifactError, ConfigError
from oel_core.files import write_atomic
from oel_core.inbox import INBOX, new_experience
from oel_core.jsonl import jsonl_bytes
from oel_core.manifest import read_record
from oel_core.round_start import RoundStart, inbox_read_to, last_begun, read_start, write_start
from oel_core.stages.gate import STAGE as GATE
from oel_core.stages.teaching import has_teaching
from oel_core.types import Record

Outcome = Literal["begun", "waiting", "promoted", "refused", "failed"]
CLOSED, TRIGGERS = "closed.json", "triggers"
MOST_ROUNDS = 63


class Trigger(Record):
    """`triggers/<id>.json` in a run folder."""

    id: str
    outcome: Outcome
    """`begun` is not over; `waiting` had too little new experience; the others are a round's end."""
    round: int | None = None
    champion: int | None = None
    """Round of the champion when the trigger was over; 0 is the base model."""
    detail: str = ""
    at: float
    """Seconds since 1970, UTC."""

    @property
    def over(self) -> bool:
        return self.outcome != "begun"


class Closed(Record):
    """`closed.json` in the folder of a round that cannot be finished."""

    reason: str


def file_stem(id: str) -> str:
    """The id itself, or its hash when it cannot be a file's name."""
    fits = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", id)
    return id if fits else hashlib.sha256(id.encode()).hexdigest()[:32]


def trigger_path(run: RunFolder, id: str) -> Path:
    """Where a trigger is noted."""
    return run.path / TRIGGERS / f"{file_stem(id)}.json"


def read_trigger(run: RunFolder, id: str) -> Trigger | None:
    """What came of a trigger, or None when it is new."""
    path = trigger_path(run, id)
    if not path.exists():
        return None
    found: Trigger = read_record(path, Trigger)
    return found


def note(run: RunFolder, trigger: Trigger) -> Trigger:
    """Writes a trigger's state and returns it."""
    write_atomic(trigger_path(run, trigger.id), trigger.model_dump_json(indent=1).encode())
    return trigger


def open_round(run: RunFolder) -> int | None:
    """The round that was begun by a trigger and is not over, or None.

    Raises:
        ArtifactError: the newest round was begun by `oel run` and is not finished.
    """
    last = last_begun(run)
    if last == 0 or (run.path / round_name(last) / CLOSED).exists() or run.has(last, GATE):
        return None
    if read_start(run, last) is not None:
        return last
    if not run.has(last, "evaluate/held_out"):
        raise ArtifactError(
            f"round {last} of {run.path} was begun by `oel run` and is not finished: finish it there first, or delete "
            f"{run.path / round_name(last)}"
        )
    return None


def close(run: RunFolder, round_index: int, reason: str) -> None:
    """Ends a round that cannot be finished, so that the next trigger begins another."""
    write_atomic(run.path / round_name(round_index) / CLOSED, Closed(reason=reason).model_dump_json().encode())


def begin(config: OelConfig, run: RunFolder, trigger: str, champion: int) -> Trigger:
    """Begins the next round from the champion's model, or says that it is too early.

    The experience is frozen in the round's folder before the round exists, so a kill at any moment loses none of it.

    Raises:
        ConfigError: the project has as many rounds as there are seeds for.
        ArtifactError: the inbox cannot be read.
    """
    number = last_begun(run) + 1
    if number > MOST_ROUNDS:
        raise ConfigError(
            f"{run.path} has {MOST_ROUNDS} rounds, and there are no seeds for more: go on under a new name with "
            "model.path set to the champion's checkpoint"
        )
    start = RoundStart(parent=champion, knowledge=_knowledge(config, run, number, champion), trigger=trigger)
    if config.experience.inbox is not None:
        found = new_experience(Path(config.experience.inbox), inbox_read_to(run), config.environment.name)
        have, need = len(found.episodes), config.experience.min_episodes
        left = "".join(f"\nleft out: {line}" for line in found.left_out[:20])
        if have < need:
            detail = f"{have} of {need} new episodes in {config.experience.inbox}{left}"
            return note(run, Trigger(id=trigger, outcome="waiting", champion=champion, detail=detail, at=time.time()))
        write_atomic(run.path / round_name(number) / INBOX, jsonl_bytes(found.episodes))
        start = start.model_copy(update={"inbox_episodes": have, "inbox_read_to": found.read_to})
    write_start(run, number, start)
    return join(run, trigger, number)


def join(run: RunFolder, trigger: str, round_index: int) -> Trigger:
    """Notes that a trigger works on a round, its own or one that a killed process left."""
    return note(run, Trigger(id=trigger, outcome="begun", round=round_index, at=time.time()))


def _knowledge(config: OelConfig, run: RunFolder, number: int, champion: int) -> int | None:
    if config.gate.refused_knowledge == "drop":
        return champion or None
    return max((index for index in range(1, number) if has_teaching(config, run, index)), default=None)
