"""An index of imported calls in a database beside the inbox's files, so that importing a log again adds nothing."""

import hashlib
import sqlite3
from pathlib import Path

from oel_core.errors import ArtifactError
from oel_core.imports.records import Call

INDEX = ".imported.sqlite"
_TABLES = """
create table if not exists file (name text primary key, landed integer not null);
create table if not exists call (key blob primary key, file text not null) without rowid;
"""
_KEY_FIELDS = {"id", "request", "session", "messages", "response", "model", "prompt_tokens", "stop_reason"}
"""Fields that identify a call; the id alone does not, since many logs count from 1 in each file."""


class Index:
    """The index of one inbox, used by one import at a time.

    Calls are recorded before their file is renamed into place and confirmed afterwards. After a kill in between, calls
    of a missing file are removed and those of an existing file are confirmed.
    """

    def __init__(self, inbox: Path) -> None:
        """Raises ArtifactError if the database cannot be opened or written."""
        path = inbox / INDEX
        try:
            self._database = sqlite3.connect(path, isolation_level=None)
            self._database.executescript(_TABLES)
            self._database.execute("begin immediate")
            for (name,) in self._database.execute("select name from file where not landed").fetchall():
                if not (inbox / name).exists():
                    self._database.execute("delete from call where file = ?", (name,))
                    self._database.execute("delete from file where name = ?", (name,))
        except sqlite3.DatabaseError as error:
            raise ArtifactError(
                f"{path} cannot be used ({error}): restore it from a copy, or remove it, after which calls that were "
                "imported once are imported again"
            ) from error

    def has(self, key: bytes) -> bool:
        """Whether a call was imported."""
        return self._database.execute("select 1 from call where key = ?", (key,)).fetchone() is not None

    def note(self, key: bytes, file: str) -> None:
        """Records that a call will be in a file."""
        self._database.execute("insert or ignore into call values (?, ?)", (key, file))

    def announce(self, file: str) -> None:
        """Commits the recorded calls, before the file is renamed into place."""
        self._database.execute("insert or replace into file values (?, 0)", (file,))
        self._database.execute("commit")

    def confirm(self, file: str) -> None:
        """Marks the file as in place."""
        self._database.execute("update file set landed = 1 where name = ?", (file,))

    def close(self) -> None:
        """Closes the database; calls that were not announced are discarded."""
        self._database.close()


def key_of(format: str, call: Call) -> bytes:
    """The key of a call: a digest of format, the source's ids and the content."""
    content = call.model_dump_json(include=_KEY_FIELDS)
    return hashlib.sha256("\0".join([format, content]).encode()).digest()[:16]
