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
from oel_core.imports.records import Session
from oel_core.runs.files import sync_folder
from oel_core.runs.jsonl import jsonl_bytes
from oel_core.serving.recording.journal import Chain, Journal
from oel_core.types import Trajectory

FORMAT = "served"
BATCH = 200
"""Maximum conversations per call of `run`, during which the recorder cannot write."""
KEPT_S = 30 * 86400.0
"""Seconds for which ids of exported answers are kept, to recognise late feedback."""


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

    def run(self, idle_s: float) -> int:
        """Exports conversations idle for `idle_s` seconds and those left by an interrupted call; returns their number.

        Raises:
            OSError, sqlite3.Error: writing failed.
        """
        count = sum(self._write(file) for file in self.journal.unfinished_files())
        now = time.time()
        file = f"{FORMAT}-{time.strftime('%Y-%m-%d', time.gmtime(now))}.jsonl"
        with self.journal.transaction():
            found = self.journal.assign(file, now - idle_s, BATCH)
        return count + (self._write(file) if found else 0)

    def _write(self, file: str) -> int:
        chains, path = self.journal.chains(file), self.inbox / file
        present: set[str] = set()
        if not self._intact:
            present = _recovered_ids(path)
        self._intact = False
        missing = [self._episode(chain) for chain in chains if chain.id not in present]
        if missing:
            _append(path, missing)
        with self.journal.transaction():
            self.journal.mark_written(file, time.time() - KEPT_S)
        self._intact = True
        return len(chains)

    def _episode(self, chain: Chain) -> Trajectory:
        return episode(Session(FORMAT, chain.calls), chain.id, self.env, chain.number, self.top_score)


def _recovered_ids(path: Path) -> set[str]:
    """Ids of the episodes in a file, after truncating a torn last line."""
    if not path.exists():
        return set()
    found, whole = set(), 0
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            whole += len(line)
            found.add(_id(line))
    if whole < path.stat().st_size:
        os.truncate(path, whole)
    return found


def _id(line: bytes) -> str:
    try:
        return str(from_json(line)["id"])
    except (ValueError, KeyError, TypeError):
        return ""  # no episode of ours; the reader of the inbox reports the line


def _append(path: Path, episodes: Iterable[Trajectory]) -> None:
    data = jsonl_bytes(episodes)
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
