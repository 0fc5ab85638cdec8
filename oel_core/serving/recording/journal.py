"""The journal: answered calls that are not in the inbox yet, in a SQLite database beside the inbox's files.

A conversation is a *chain* of calls, each of which continues the one before it. A chain that has been idle for
`serve.session_idle_s` is exported to a file of the inbox (`handover.py`); its texts are then removed from the database.
"""

import json
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from oel_core.errors import ArtifactError
from oel_core.imports.records import Call
from oel_core.imports.stitching import Conversation
from oel_core.serving.recording.feedback import ClientFeedback, effective_feedback

JOURNAL = ".served.sqlite"
_TABLES = """
create table if not exists chain (
    number integer primary key, id text not null unique, session text not null, last real not null,
    file text, landed integer not null default 0, private integer not null default 0
);
create index if not exists waiting on chain (last) where file is null;
create index if not exists of_session on chain (session);
create table if not exists call (
    position integer primary key, id text not null unique, chain integer not null, scope text, ending text, record text
);
create index if not exists by_ending on call (scope, ending);
create index if not exists of_chain on call (chain);
create table if not exists feedback (
    position integer primary key, chain integer not null, call text not null, late integer not null, record text
);
create index if not exists of_call on feedback (chain);
"""
_PARENT = """
select call.chain, call.ending from call join chain on chain.number = call.chain
where call.scope = ? and call.ending in (select value from json_each(?)) and chain.file is null
and not exists (select 1 from call as next where next.chain = call.chain and next.position > call.position)
order by call.position desc
"""


@dataclass(frozen=True)
class Chain:
    """One finished conversation."""

    number: int
    id: str
    """Of the episode."""
    calls: tuple[Call, ...]
    """With their feedback, superseded feedback included."""


class Journal:
    """The database of one inbox, used by one thread of one process. Every method but `open` needs a transaction."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    @classmethod
    def open(cls, inbox: Path) -> "Journal":
        """Opens or creates the database. Raises ArtifactError if it cannot be written or is no such database."""
        path = inbox / JOURNAL
        try:
            path.touch(mode=0o600)
            database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            database.executescript(f"pragma journal_mode = wal; pragma synchronous = full; {_TABLES}")
            database.execute("pragma secure_delete = on")
        except (OSError, sqlite3.DatabaseError) as error:
            raise ArtifactError(
                f"{path} cannot be used ({error}): let this user write it, or restore it from a copy. It holds the "
                "conversations that are not in the inbox yet"
            ) from error
        return cls(database)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """An atomic, durable transaction. Raises sqlite3.Error."""
        self._database.execute("begin immediate")
        try:
            yield
            self._database.execute("commit")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("rollback")
            raise

    def add(self, call: Call, digests: Conversation, now: float, *, private: bool) -> None:
        """Adds a call to the conversation that it continues, or to a new one; a call that is already there is ignored.

        Args:
            call: already masked.
            digests: digests of the conversation before masking.
            now: seconds since 1970.
            private: the conversation contains data that must not be stored; none of it is exported.
        """
        if self._database.execute("select 1 from call where id = ?", (call.id,)).fetchone():
            return
        chain = self._parent(call.session, digests) or self._new_chain(call.session, now)
        record = None if private else call.model_dump_json()
        row = (call.id, chain, call.session, digests.ending, record)
        self._database.execute("insert into call (id, chain, scope, ending, record) values (?, ?, ?, ?, ?)", row)
        self._database.execute(
            "update chain set last = ?, private = max(private, ?) where number = ?", (now, private, chain)
        )

    def _parent(self, session: str, digests: Conversation) -> int | None:
        """The open conversation whose end is the longest of the call's prefixes; of several the latest."""
        found = self._database.execute(_PARENT, (session, json.dumps(digests.prefixes))).fetchall()
        by_ending = {ending: chain for chain, ending in reversed(found)}
        return next((by_ending[each] for each in digests.prefixes if each in by_ending), None)

    def _new_chain(self, session: str, now: float) -> int:
        found = self._database.execute(
            "insert into chain (id, session, last) values (?, ?, ?)", (f"served-{uuid.uuid4().hex}", session, now)
        )
        assert found.lastrowid is not None
        return found.lastrowid

    def add_feedback(self, given: ClientFeedback, now: float) -> bool | None:
        """Stores feedback. Returns whether it is in time for the episode; None if the answer or session is unknown."""
        if given.response:
            query, key = "select chain from call where id = ?", given.response
        else:
            query, key = (
                "select number from chain where session = ? order by last desc, number desc limit 1",
                given.session,
            )
        row = self._database.execute(query, (key,)).fetchone()
        if row is None:
            return None
        (file,) = self._database.execute("select file from chain where number = ?", row).fetchone()
        self._database.execute(
            "insert into feedback (chain, call, late, record) values (?, ?, ?, ?)",
            (row[0], given.response, file is not None, given.model_dump_json()),
        )
        if file is None:
            self._database.execute("update chain set last = ? where number = ?", (now, row[0]))
        return file is None

    def assign(self, file: str, before: float, most: int) -> int:
        """Closes conversations that have been idle since `before` and assigns them to a file; returns their number."""
        found = self._database.execute(
            "update chain set file = ? where number in "
            "(select number from chain where file is null and last <= ? order by number limit ?)",
            (file, before, most),
        )
        return found.rowcount

    def unfinished_files(self) -> list[str]:
        """Files with assigned conversations that may not have been written."""
        rows = self._database.execute("select distinct file from chain where file is not null and not landed")
        return sorted(file for (file,) in rows)

    def chains(self, file: str) -> list[Chain]:
        """The conversations assigned to a file and not yet marked as written, in order, without private ones."""
        rows = self._database.execute(
            "select number, id from chain where file = ? and not landed and not private order by number", (file,)
        ).fetchall()
        return [Chain(number, id, self._calls(number)) for number, id in rows]

    def _calls(self, chain: int) -> tuple[Call, ...]:
        records = self._database.execute("select record from call where chain = ? order by position", (chain,))
        calls = [Call.model_validate_json(record) for (record,) in records.fetchall()]
        rows = self._database.execute(
            "select call, record from feedback where chain = ? and not late order by position", (chain,)
        )
        given: dict[str, list[ClientFeedback]] = {}
        for about, record in rows:
            given.setdefault(about, []).append(ClientFeedback.model_validate_json(record))
        of_session = effective_feedback(given.get("", ()))
        rated = [
            call.model_copy(update={"feedback": tuple(effective_feedback(given.get(call.id, ())))}) for call in calls
        ]
        last = rated[-1]
        return (*rated[:-1], last.model_copy(update={"feedback": (*last.feedback, *of_session)}))

    def mark_written(self, file: str, forget_before: float) -> None:
        """Marks a file's conversations as written, removes their texts, and deletes entries before `forget_before`."""
        self._database.execute("update chain set landed = 1 where file = ?", (file,))
        self._database.execute(
            "update call set record = null, ending = null where chain in (select number from chain where file = ?)",
            (file,),
        )
        for table, column in (("feedback", "chain"), ("call", "chain"), ("chain", "number")):
            self._database.execute(
                f"delete from {table} where {column} in (select number from chain where landed and last < ?)",
                (forget_before,),
            )

    def close(self) -> None:
        """Closes the connection. Needs no transaction."""
        self._database.close()
