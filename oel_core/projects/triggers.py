"""Idempotent triggers of recurring rounds: the same trigger id gives the same outcome.

State is in the run's files, and facts about the registry are arguments, so any process can continue a trigger.
"""

import hashlib
import re
import time
from pathlib import Path
from typing import Literal

from oel_core.cases.frozen import CASES
from oel_core.config.run import OelConfig
from oel_core.errors import ArtifactError, ConfigError
from oel_core.projects.inbox import INBOX, NewExperience, Received, Require, accept_all
from oel_core.projects.quarantine import left_out_lines
from oel_core.projects.round_cases import set_apart
from oel_core.projects.round_inbox import read_inbox, write_read_to
from oel_core.rounds.prompts import prompts_of
from oel_core.runs.files import write_atomic
from oel_core.runs.folder import RunFolder, round_name
from oel_core.runs.jsonl import jsonl_bytes
from oel_core.runs.manifest import digest_file, read_optional
from oel_core.runs.round_start import RoundStart, last_begun, read_start, write_start
from oel_core.seeds import SEEDINGS
from oel_core.types import Record, Split

Outcome = Literal["begun", "undecided", "waiting", "unusable", "promoted", "refused", "failed"]
OPEN: tuple[Outcome, ...] = ("begun", "undecided")
"""Outcomes after which the same trigger continues."""
OUTCOME, TRIGGERS = "outcome.json", "triggers"
MIN_EPISODES = 2
"""Episodes of a round: one for knowledge, one whose prompts are distilled."""


class Trigger(Record):
    """`triggers/<id>.json` in a run folder, and `outcome.json` in the folder of a round that is over."""

    id: str
    outcome: Outcome
    """`begun`: the round runs, or was killed. `undecided`: it waits for a review. `waiting`: no round, too little new
    experience. `unusable`: no round, every new line of the inbox was left out. The others are a round's end:
    `promoted`, `refused` (by the gate) and `failed` (it could not be finished)."""
    round: int | None = None
    champion: int | None = None
    """Round of the champion when the trigger was over; 0 is the base model."""
    detail: str = ""
    at: float
    """Seconds since 1970, UTC."""

    @property
    def over(self) -> bool:
        return self.outcome not in OPEN


def file_stem(id: str) -> str:
    """The id itself, or its hash when it cannot be a file's name."""
    fits = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", id)
    return id if fits else hashlib.sha256(id.encode()).hexdigest()[:32]


def trigger_path(run: RunFolder, id: str) -> Path:
    """File of a trigger."""
    return run.path / TRIGGERS / f"{file_stem(id)}.json"


def read_trigger(run: RunFolder, id: str) -> Trigger | None:
    """The stored trigger, or None for a new id."""
    path = trigger_path(run, id)
    return read_optional(path, Trigger)


def note(run: RunFolder, trigger: Trigger) -> Trigger:
    """Stores a trigger and returns it."""
    write_atomic(trigger_path(run, trigger.id), trigger.model_dump_json(indent=1).encode())
    return trigger


def finished_trigger(run: RunFolder, id: str) -> Trigger | None:
    """The trigger if it has ended; None for a new one or one with an open round.

    After a kill, a trigger's round may have been ended by another trigger: both have the same outcome.
    """
    found = read_trigger(run, id)
    if found is None or found.over:
        return found
    ended = outcome_of(run, found.round) if found.round is not None else None
    return note(run, ended.model_copy(update={"id": id})) if ended is not None else None


def outcome_of(run: RunFolder, round_index: int) -> Trigger | None:
    """The trigger that ended a round, with its outcome; None while the round is open."""
    path = run.path / round_name(round_index) / OUTCOME
    return read_optional(path, Trigger)


def end(run: RunFolder, trigger: Trigger, round_index: int) -> Trigger:
    """Stores a round's outcome: first in its folder, which ends the round for all processes, then in the trigger.

    Before that the round is open, whatever stages have finished: a verdict without promotion or refusal does not count.
    """
    write_atomic(run.path / round_name(round_index) / OUTCOME, trigger.model_dump_json(indent=1).encode())
    return note(run, trigger)


def open_round(run: RunFolder) -> int | None:
    """The open round of a trigger, or None.

    Raises:
        ArtifactError: the newest round was begun by `oel run` and is not finished.
    """
    last = last_begun(run)
    if last == 0 or outcome_of(run, last) is not None:
        return None
    if read_start(run, last) is not None:
        return last
    if not run.has(last, "evaluate/held_out"):
        raise ArtifactError(
            f"round {last} of {run.path} was begun by `oel run` and is not finished: finish it there first, or delete "
            f"{run.path / round_name(last)}"
        )
    return None


def begin(config: OelConfig, run: RunFolder, trigger: str, champion: int, require: Require = accept_all) -> Trigger:
    """Begins the next round from the champion's model, or returns the outcome `waiting` or `unusable`.

    The episodes are copied to the round's folder before the round is registered, so a kill loses none.
    `require` raises LineError for an episode of the inbox that the champion's model cannot be trained on.

    Raises:
        ConfigError: `environment.seeds` has no seeds for another round.
        ArtifactError: the inbox cannot be read, or the quarantine cannot be written.
    """
    number = last_begun(run) + 1
    SEEDINGS[config.environment.seeds](config.seed, Split.EXTRACT, number, 0, 0)  # raises before anything is written
    start = RoundStart(parent=champion, knowledge=_knowledge(config, run, number, champion), trigger=trigger)
    if config.experience.inbox is not None:
        found = read_inbox(config, run, require)
        have, need = len(found.received), config.experience.min_episodes
        if have < need:
            return _too_few(
                run, trigger, champion, found, f"{have} of {need} new episodes in {config.experience.inbox}"
            )
        trained, cases = _divided(config, run, number, found.received)
        if len(trained) < MIN_EPISODES:
            short = f"{len(trained)} of {have} new episodes can be trained on, the others are or join cases"
            return _too_few(run, trigger, champion, found, short)
        if not any(prompts_of(each.episode, config.experience.distill_turns) for each in trained):
            unrated = (
                f"none of {len(trained)} new episodes to train on has feedback on an answer (distill_turns: rated)"
            )
            return _too_few(run, trigger, champion, found, unrated)
        write_atomic(run.path / round_name(number) / INBOX, jsonl_bytes(trained))
        start = start.model_copy(update={"inbox_episodes": len(trained), "inbox_read_to": found.read_to})
        start = start.model_copy(update={"cases": cases, "inbox_rated_late": found.rated_late})
        start = start.model_copy(update={"inbox_left_out": tuple(left_out_lines(found.left_out))})
    write_start(run, number, start)
    return join(run, trigger, number)


def _divided(
    config: OelConfig, run: RunFolder, number: int, received: list[Received]
) -> tuple[list[Received], str | None]:
    """The episodes to train on, and the digest of the round's set of cases where the project measures on cases."""
    if config.evaluate.held_out != "cases":
        return received, None
    trained = set_apart(config, run, number, received)
    return trained, digest_file(run.path / round_name(number) / CASES)


def _too_few(run: RunFolder, trigger: str, champion: int, found: NewExperience, have: str) -> Trigger:
    """Stores that there is no round: too few new episodes, or only unusable lines.

    Unusable lines are not read again: they are in the quarantine, and only this trigger reports them.
    """
    outcome: Outcome = "unusable" if found.left_out and not found.received else "waiting"
    detail = "\n".join([have, *left_out_lines(found.left_out)])
    noted = note(run, Trigger(id=trigger, outcome=outcome, champion=champion, detail=detail, at=time.time()))
    if outcome == "unusable":
        write_read_to(run, found.read_to)
    return noted


def undecided(run: RunFolder, trigger: str, round_index: int, detail: str) -> Trigger:
    """Stores that a trigger's round waits for a reviewer; the round stays open."""
    return note(
        run, Trigger(id=trigger, outcome="undecided", round=round_index, champion=None, detail=detail, at=time.time())
    )


def join(run: RunFolder, trigger: str, round_index: int) -> Trigger:
    """Stores that a trigger continues a round, its own or one of a killed process."""
    return note(run, Trigger(id=trigger, outcome="begun", round=round_index, at=time.time()))


def _knowledge(config: OelConfig, run: RunFolder, number: int, champion: int) -> int | None:
    if config.gate.refused_knowledge == "drop":
        return champion or None
    return max((index for index in range(1, number) if run.has(index, "distill")), default=None)


def abandon(run: RunFolder, round_index: int, detail: str) -> Trigger:
    """Ends the newest round as failed. Requires the lease.

    Raises:
        ConfigError: it is not the newest round, or has ended.
    """
    last, ended = last_begun(run), outcome_of(run, round_index)
    if ended is not None:
        raise ConfigError(f"round {round_index} of {run.path} is over already: {ended.outcome}")
    if round_index != last or (read_start(run, last) is None and run.has(last, "evaluate/held_out")):
        raise ConfigError(f"round {round_index} of {run.path} is not open: the newest is round {last}")
    start = read_start(run, round_index)
    id = start.trigger if start is not None else f"abandoned-round-{round_index}"
    champion = start.parent if start is not None else None
    ended = Trigger(id=id, outcome="failed", round=round_index, champion=champion, detail=detail, at=time.time())
    return end(run, ended, round_index)
