"""Conversations that are over become episodes in a file of the inbox, each exactly once, whatever is killed when.

The journal says first which file a conversation belongs to, then the file gets it, then the journal says that it has.
After a kill between any two of these steps the file itself tells what is missing in it.
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
MOST = 200
"""Conversations of one step: the recorder waits while they are written."""
KEPT_S = 30 * 86400.0
"""Seconds for which the ids of handed-over answers are kept, so that late feedback is told that it is late."""


@dataclass
class Handover:
    """Writes episodes for one project. Errors of the disk pass: the next call goes on where this one failed."""

    journal: Journal
    inbox: Path
    env: str
    """Name of the project's environment."""
    top_score: float
    _intact: bool = False
    """Whether the last write ended well, so that the inbox's files need not be looked through."""

    def run(self, idle_s: float) -> int:
        """Hands over conversations that have been idle for so long, and what an earlier call began; how many.

        Raises:
            OSError, sqlite3.Error: the disk does not take it.
        """
        count = sum(self._land(file) for file in self.journal.unlanded_files())
        now = time.time()
        file = f"{FORMAT}-{time.strftime('%Y-%m-%d', time.gmtime(now))}.jsonl"
        with self.journal.transaction():
            found = self.journal.assign(file, now - idle_s, MOST)
        return count + (self._land(file) if found else 0)

    def _land(self, file: str) -> int:
        chains, path = self.journal.chains(file), self.inbox / file
        there: set[str] = set()
        if not self._intact:
            there = _ids_after_cut(path)
        self._intact = False
        missing = [self._episode(chain) for chain in chains if chain.id not in there]
        if missing:
            _append(path, missing)
        with self.journal.transaction():
            self.journal.landed(file, time.time() - KEPT_S)
        self._intact = True
        return len(chains)

    def _episode(self, chain: Chain) -> Trajectory:
        return episode(Session(FORMAT, chain.calls), chain.id, self.env, chain.number, self.top_score)


def _ids_after_cut(path: Path) -> set[str]:
    """Ids of the episodes in a file, from which a torn last line is cut off."""
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
        return ""  # nobody's: whoever reads the inbox reports the line


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
    """The project's inbox, made if it is missing.

    Raises:
        ArtifactError: the project has none, or it cannot be made.
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
