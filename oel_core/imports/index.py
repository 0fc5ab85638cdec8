"""Which calls an inbox already has: a database beside its files, so that importing a log again adds nothing."""

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
_TELLING = {"id", "request", "session", "messages", "response", "model", "prompt_tokens", "stop_reason"}
"""Fields that tell a call from another; not the id alone, since many logs count from 1 in each file."""


class Index:
    """The index of one inbox, used by one import at a time.

    An import's calls are noted before its file gets its name and confirmed after. So a kill between the two can be
    told: the calls of a file that never came are forgotten, those of a file that is there are confirmed.
    """

    def __init__(self, inbox: Path) -> None:
        """Raises ArtifactError: the index cannot be written, or is none."""
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
        """Says that a call will be in a file."""
        self._database.execute("insert or ignore into call values (?, ?)", (key, file))

    def announce(self, file: str) -> None:
        """Keeps what was noted; the file is about to get its name."""
        self._database.execute("insert or replace into file values (?, 0)", (file,))
        self._database.execute("commit")

    def confirm(self, file: str) -> None:
        """The file has its name."""
        self._database.execute("update file set landed = 1 where name = ?", (file,))

    def close(self) -> None:
        """Forgets what was noted and not announced."""
        self._database.close()


def key_of(format: str, call: Call) -> bytes:
    """What tells a call from every other: the format, the source's ids, and what was said."""
    content = call.model_dump_json(include=_TELLING)
    return hashlib.sha256("\0".join([format, content]).encode()).digest()[:16]
