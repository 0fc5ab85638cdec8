"""Writes finished conversations as episodes to a file of the inbox, exactly once, also after kills.

First the journal assigns a conversation to a file, then the episode is appended, then the journal marks the
conversation as written. After a kill between two of these steps the ids in the file show which episodes are missing.
"""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic_core import from_json

from oel_core.errors import ArtifactError
from oel_core.imports.episode import episode
from oel_core.imports.feedback import scaled, summary
from oel_core.imports.records import Session
from oel_core.projects.deployment import DEPLOYMENT, LATE, SHADOW, LateFeedback
from oel_core.runs.files import sync_folder
from oel_core.runs.jsonl import jsonl_bytes
from oel_core.serving.recording.journal import Chain, Journal, RatedLate
from oel_core.types import Record, Trajectory

FORMAT = "served"
BATCH = 200
"""Maximum conversations per call of `run`, during which the recorder cannot write."""
KEPT_S = 30 * 86400.0
"""Seconds for which ids of exported answers are kept, so that late feedback finds its episode."""


@dataclass
class Handover:
    """Writes episodes for one project. After a disk error the next call resumes where this one failed."""

    journal: Journal
    inbox: Path
    env: str
    """Name of the project's environment."""
    top_score: float
    _intact: bool = False
    """Whether the last write succeeded, so that the file need not be checked for torn or present episodes."""

    def run(self, idle_s: float, until: float | None = None) -> int:
        """Exports conversations idle for `idle_s` seconds and those left by an interrupted call; returns their number.

        `until`: end of the idle time, seconds since 1970; None is now.

        Raises:
            OSError, sqlite3.Error: writing failed.
        """
        count = sum(self._write(file) for file in self.journal.unfinished_files())
        now = time.time()
        file = f"{FORMAT}-{time.strftime('%Y-%m-%d', time.gmtime(now))}.jsonl"
        with self.journal.transaction():
            found = self.journal.assign(file, (now if until is None else until) - idle_s, BATCH)
        written = self._write(file) if found else 0
        self._add_later(file.removeprefix(f"{FORMAT}-"))
        return count + written

    def _add_later(self, day: str) -> None:
        """Writes down what came after its conversation was: feedback, and answers of a candidate."""
        late, shadows = self.journal.rated_late(), self.journal.shadows()
        if not (late or shadows):
            return
        folder = self.inbox / DEPLOYMENT
        folder.mkdir(exist_ok=True)
        for begin, records in ((LATE, [*map(self._late, late)]), (SHADOW, [answer for _, answer in shadows])):
            if records:
                _whole_lines(folder / f"{begin}{day}")
                _append(folder / f"{begin}{day}", records)
        with self.journal.transaction():
            self.journal.written(late, [position for position, _ in shadows])

    def _late(self, one: RatedLate) -> LateFeedback:
        reward, feedback = summary(one.given, self.top_score)
        given = tuple(tuple(scaled(each, self.top_score) for each in turn) for turn in one.given)
        return LateFeedback(episode=one.episode, given=given, reward=reward, feedback=feedback, at=time.time())

    def _write(self, file: str) -> int:
        there: set[str] = set()
        if not self._intact:
            there = set(_whole_lines(self.inbox / file))
        self._intact = False
        with self.journal.transaction():  # `oel forget` finds a conversation here or in the inbox, never in between
            chains = self.journal.chains(file)
            missing = [self._episode(chain) for chain in chains if chain.id not in there]
            if missing:
                _append(self.inbox / file, missing)
            self.journal.mark_written(file, time.time() - KEPT_S)
        self._intact = True
        return len(chains)

    def _episode(self, chain: Chain) -> Trajectory:
        return episode(Session(FORMAT, chain.calls), chain.id, self.env, chain.number, self.top_score)


def _whole_lines(path: Path) -> list[str]:
    """Ids of the episodes in a file, empty ones of other lines. A torn last line is cut off."""
    if not path.exists():
        return []
    found, whole = [], 0
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            whole += len(line)
            found.append(_id(line))
    if whole < path.stat().st_size:
        os.truncate(path, whole)
    return found


def _id(line: bytes) -> str:
    try:
        return str(from_json(line)["id"])
    except (ValueError, KeyError, TypeError):
        return ""  # no episode of ours; the reader of the inbox reports the line


def _append(path: Path, records: Iterable[Record]) -> None:
    data = jsonl_bytes(records)
    new = not path.exists()
    with path.open("ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    if new:
        sync_folder(path.parent)


def require_inbox(inbox: str | None) -> Path:
    """The project's inbox; created if it is missing.

    Raises:
        ArtifactError: the project has none, or it cannot be created.
    """
    if inbox is None:
        raise ArtifactError(
            "experience.inbox is null: name the folder that conversations go to and rounds learn from "
            "(--set experience.inbox=FOLDER)"
        )
    path = Path(inbox)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtifactError(f"{path} cannot be made ({error.strerror}): choose another experience.inbox") from error
    return path
