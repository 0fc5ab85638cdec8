"""The journal: answered calls that are not in the inbox yet, in a SQLite database beside the inbox's files.

A conversation is a *chain* of calls, each of which continues the one before it, all answered by one version of the
model: where another version takes over in mid-conversation, another chain begins. A chain that has been idle for
`serve.session_idle_s` is exported to a file of the inbox (`handover.py`); its texts are then removed from the database.
They have a table of their own, so that removing them frees whole pages, which the next conversations fill.
"""

import json
import sqlite3
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from oel_core.errors import ArtifactError
from oel_core.imports.records import Call, Feedback
from oel_core.imports.stitching import Conversation
from oel_core.projects.deployment import ShadowAnswer
from oel_core.serving.recording.feedback import ClientFeedback, effective_feedback

JOURNAL = ".served.sqlite"
_TABLES = """
create table if not exists chain (
    number integer primary key, id text not null unique, session text not null, user text not null,
    version text not null, last real not null,
    file text, landed integer not null default 0, private integer not null default 0
);
create index if not exists waiting on chain (last) where file is null;
create index if not exists of_session on chain (session);
create table if not exists call (
    position integer primary key, id text not null unique, chain integer not null, scope text, ending text
);
create index if not exists by_ending on call (scope, ending) where ending is not null;
create index if not exists of_chain on call (chain);
create table if not exists text (call integer primary key, record text not null);
create table if not exists feedback (
    position integer primary key, chain integer not null, call text not null, late integer not null, record text,
    source text unique, written integer not null default 0
);
create index if not exists of_call on feedback (chain);
create table if not exists shadow (
    position integer primary key, call text not null, version text not null, response text not null, at real not null
);
"""
_LAYOUT = 3
"""Of these tables, as `pragma user_version` says."""
_PARENT = """
select call.chain, call.ending from call join chain on chain.number = call.chain
where call.scope = ? and call.ending in (select value from json_each(?)) and chain.file is null and chain.version = ?
and not exists (select 1 from call as next where next.chain = call.chain and next.position > call.position)
order by call.position desc
"""
_REMOVE_TEXTS = "delete from text where call in (select position from call where chain = ?)"


class Taken(NamedTuple):
    """Feedback that belongs to a conversation."""

    late: bool
    """The conversation was in the inbox already."""
    version: str
    """Of the model that answered."""
    new: bool
    """It was not taken before."""


class Talk(NamedTuple):
    """Whose a conversation was."""

    number: int
    session: str
    user: str
    at: float
    """When it was last heard of, seconds since 1970, UTC."""
    landed: bool
    """Its texts are in the inbox, and only ids and feedback are here."""


@dataclass(frozen=True)
class RatedLate:
    """A conversation of the inbox with all its feedback."""

    last: int
    """Position of the newest."""
    episode: str
    given: list[tuple[Feedback, ...]]
    """For each answer."""


@dataclass(frozen=True)
class Chain:
    """One finished conversation."""

    number: int
    id: str
    """Of the episode."""
    calls: tuple[Call, ...]
    """With their feedback, superseded feedback included."""


class Journal:
    """The database of one inbox, used by one thread of a process. Every method but `open` needs a transaction."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    @classmethod
    def open(cls, inbox: Path) -> "Journal":
        """Opens or creates the database. Raises ArtifactError if it cannot be written or is no such database."""
        path = inbox / JOURNAL
        try:
            path.touch(mode=0o600)
            database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            _require_layout(database, path)
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
        chain = self._parent(call, digests) or self._new_chain(call, now)
        row = (call.id, chain, call.session, digests.ending)
        found = self._database.execute("insert into call (id, chain, scope, ending) values (?, ?, ?, ?)", row)
        if not private:
            text = (found.lastrowid, call.model_dump_json())
            self._database.execute("insert into text (call, record) values (?, ?)", text)
        self._database.execute(
            "update chain set last = ?, private = max(private, ?), user = coalesce(nullif(?, ''), user) "
            "where number = ?",
            (now, private, call.user, chain),
        )

    def _parent(self, call: Call, digests: Conversation) -> int | None:
        """The open conversation whose end is the longest of the call's prefixes; of several the latest."""
        sought = (call.session, json.dumps(digests.prefixes), call.model)
        found = self._database.execute(_PARENT, sought).fetchall()
        by_ending = {ending: chain for chain, ending in reversed(found)}
        return next((by_ending[each] for each in digests.prefixes if each in by_ending), None)

    def _new_chain(self, call: Call, now: float) -> int:
        row = (f"served-{uuid.uuid4().hex}", call.session, call.user, call.model, now)
        found = self._database.execute(
            "insert into chain (id, session, user, version, last) values (?, ?, ?, ?, ?)", row
        )
        assert found.lastrowid is not None
        return found.lastrowid

    def add_feedback(self, given: ClientFeedback, now: float) -> Taken | None:
        """Keeps feedback, once for each `given.source_id`. Returns None where nothing is known of the answer."""
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
        file, version = self._database.execute("select file, version from chain where number = ?", row).fetchone()
        found = self._database.execute(
            "insert or ignore into feedback (chain, call, late, record, source) values (?, ?, ?, ?, ?)",
            (row[0], given.response, file is not None, given.model_dump_json(), given.source_id or None),
        )
        if file is None and found.rowcount:
            self._database.execute("update chain set last = ? where number = ?", (now, row[0]))
        return Taken(late=file is not None, version=version, new=bool(found.rowcount))

    def shadow(self, call: str, version: str, response: str, now: float) -> None:
        """Keeps what a candidate would have answered in place of a call's answer."""
        row = (call, version, response, now)
        self._database.execute("insert into shadow (call, version, response, at) values (?, ?, ?, ?)", row)

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
        records = self._database.execute(
            "select record from text join call on call.position = text.call where chain = ? order by position", (chain,)
        ).fetchall()
        calls = [Call.model_validate_json(record) for (record,) in records]
        given = self._given(chain, "not late")
        return tuple(call.model_copy(update={"feedback": one}) for call, one in zip(calls, given, strict=True))

    def _given(self, chain: int, which: str) -> list[tuple[Feedback, ...]]:
        """The feedback on each answer of a conversation, that on the session with the last one.

        Args:
            which: a condition of this module on the rows.
        """
        ids = self._database.execute("select id from call where chain = ? order by position", (chain,)).fetchall()
        rows = self._database.execute(
            f"select call, record from feedback where chain = ? and {which} order by position", (chain,)
        )
        given: dict[str, list[ClientFeedback]] = {}
        for about, record in rows:
            given.setdefault(about, []).append(ClientFeedback.model_validate_json(record))
        found = [tuple(effective_feedback(given.get(id, ()))) for (id,) in ids]
        return [*found[:-1], (*found[-1], *effective_feedback(given.get("", ())))]

    def rated_late(self) -> list[RatedLate]:
        """The conversations in the inbox that got feedback since they are there, which `written` was not told of."""
        rows = self._database.execute(
            "select chain.number, chain.id, max(feedback.position) from feedback join chain on chain.number = "
            "feedback.chain where late and not written and landed and not private group by chain.number"
        ).fetchall()
        return [RatedLate(last, id, self._given(number, "true")) for number, id, last in rows]

    def shadows(self) -> list[tuple[int, ShadowAnswer]]:
        """Shadow answers, with their positions, of conversations that are in the inbox."""
        rows = self._database.execute(
            "select shadow.position, chain.id, (select count(*) from call as before where before.chain = call.chain "
            "and before.position < call.position), shadow.version, response, at from shadow "
            "join call on call.id = shadow.call join chain on chain.number = call.chain where landed and not private"
        ).fetchall()
        return [
            (position, ShadowAnswer(episode=id, turn=turn, candidate=version, response=response, at=at))
            for position, id, turn, version, response, at in rows
        ]

    def written(self, late: Iterable[RatedLate], shadows: Iterable[int]) -> None:
        """The inbox's folder holds them."""
        self._database.executemany(
            "update feedback set written = 1 where position <= ? and late and chain = "
            "(select number from chain where id = ?)",
            [(one.last, one.episode) for one in late],
        )
        self._database.executemany("delete from shadow where position = ?", [(position,) for position in shadows])

    def mark_written(self, file: str, forget_before: float) -> None:
        """Marks a file's conversations as written, removes their texts, and deletes entries before `forget_before`."""
        landing = [*self._database.execute("select number from chain where file = ? and not landed", (file,))]
        self._database.executemany(_REMOVE_TEXTS, landing)
        self._database.executemany("update call set scope = null, ending = null where chain = ?", landing)
        self._database.executemany("update chain set landed = 1 where number = ?", landing)
        old = self._database.execute("select number from chain where landed and last < ?", (forget_before,)).fetchall()
        self.forget(number for (number,) in old)

    def people(self) -> list[Talk]:
        """Every conversation that anything is known of, with whose it was."""
        rows = self._database.execute("select number, session, user, last, landed from chain order by number")
        return [Talk(*row) for row in rows]

    def forget(self, numbers: Iterable[int]) -> None:
        """Removes conversations with all that is known of them."""
        of_chain = [(number,) for number in numbers]
        self._database.executemany("delete from shadow where call in (select id from call where chain = ?)", of_chain)
        self._database.executemany(_REMOVE_TEXTS, of_chain)
        for table, column in (("feedback", "chain"), ("call", "chain"), ("chain", "number")):
            self._database.executemany(f"delete from {table} where {column} = ?", of_chain)

    def close(self) -> None:
        """Ends the connection. Needs no transaction. What was deleted leaves the write-ahead log too."""
        with suppress(sqlite3.Error):  # a disk that fails keeps the log, which the next `open` reads
            self._database.execute("pragma wal_checkpoint(truncate)")
        self._database.close()


def _require_layout(database: sqlite3.Connection, path: Path) -> None:
    """Raises ArtifactError for tables of another version of oel; new ones are marked as this version's."""
    (made,) = database.execute("select count(*) from sqlite_master where name = 'chain'").fetchone()
    (layout,) = database.execute("pragma user_version").fetchone()
    if made and layout != _LAYOUT:
        raise ArtifactError(
            f"{path} was written by another version of oel: let that version hand over the conversations in it "
            "(start `oel serve` and wait for serve.session_idle_s), then move the file away"
        )
    database.execute(f"pragma user_version = {_LAYOUT}")
