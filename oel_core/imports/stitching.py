"""Calls to sessions: each call repeats the conversation so far, so it continues the call whose prompt and answer its
own prompt begins with.

Calls wait in a temporary database on the disk, so memory does not grow with them. Of calls that continue the same one,
the one that was itself continued, then the latest, goes on with the session; others begin one of their own (side
calls, edited messages). An answer to a prompt that was answered again, and a call that was logged twice, are dropped.
"""

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from oel_core.imports.fields import decoded
from oel_core.imports.records import Call, Session
from oel_core.text.thinking import answer_in
from oel_core.types import INSTRUCTING, Message

TWICE, AGAIN = "logged twice", "the request was answered again"
_TABLE = """
create table call (
    position integer primary key, scope text, request text, prompt text, ending text, beginnings text, rated integer,
    record text, parent integer, continued integer default 0, main integer default 0, unique (scope, ending)
);
"""
_PARENTS = """
create index by_parent on call (parent);
update call set continued = exists (select 1 from call as next where next.parent = call.position);
"""
_ANSWERED_AGAIN = """
delete from call where continued = 0 and rated = 0 and position in (
    select position from (
        select position, row_number() over (
            partition by scope, prompt, case when scope != '' then '' when request != '' then request else position end
            order by continued desc, rated desc, position desc
        ) as place from call
    ) where place > 1
)
"""
_MAIN = """
update call set main = 1 where position in (
    select position from (
        select position, row_number() over (partition by parent order by continued desc, position desc) as place
        from call where parent is not null
    ) where place = 1
)
"""


class _Conversation(NamedTuple):
    """Digests of a call's conversation."""

    beginnings: list[str]
    """Of every beginning of the prompt that ends with an answer, the longest first."""
    prompt: str
    ending: str
    """Of prompt and answer."""


class Spool:
    """Calls on their way to sessions."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("")  # SQLite's name for a file that goes with the connection
        self._database.executescript(_TABLE)
        self.dropped: Counter[str] = Counter()
        """Reason → calls that are in no session."""

    def add(self, call: Call) -> None:
        """Takes a call; the order of the calls is that in which they were made."""
        talk = _conversation(call)
        row = (call.session, call.request, talk.prompt, talk.ending, json.dumps(talk.beginnings), bool(call.feedback))
        found = self._database.execute(
            "insert or ignore into call (scope, request, prompt, ending, beginnings, rated, record) "
            "values (?, ?, ?, ?, ?, ?, ?)",
            (*row, call.model_dump_json()),
        )
        self.dropped[TWICE] += 1 - found.rowcount

    def sessions(self, format: str) -> Iterator[Session]:
        """Every session once, in the order of their first calls. Nothing is added after this."""
        self._link()
        heads = self._database.execute("select position, record from call where main = 0 order by position")
        for position, record in heads:
            yield Session(format, tuple(self._calls(position, record)))

    def _link(self) -> None:
        for position, scope, beginnings in self._database.execute("select position, scope, beginnings from call"):
            parent = next(filter(None, (self._ending(scope, each) for each in json.loads(beginnings))), None)
            if parent is not None:
                self._database.execute("update call set parent = ? where position = ?", (parent, position))
        self._database.executescript(_PARENTS)
        self.dropped[AGAIN] += self._database.execute(_ANSWERED_AGAIN).rowcount
        self._database.execute(_MAIN)

    def _ending(self, scope: str, digest: str) -> int | None:
        row = self._database.execute("select position from call where scope = ? and ending = ?", (scope, digest))
        found = row.fetchone()
        return None if found is None else int(found[0])

    def _calls(self, position: int, record: str) -> Iterator[Call]:
        following: tuple[int, str] | None = (position, record)
        while following is not None:
            yield Call.model_validate_json(following[1])
            following = self._database.execute(
                "select position, record from call where parent = ? and main = 1", (following[0],)
            ).fetchone()

    def close(self) -> None:
        """Gives the disk back."""
        self._database.close()


def _conversation(call: Call) -> _Conversation:
    """Within a session the system message is not compared: many agents write the time of day into it."""
    digest, beginnings = "", []
    for message in call.messages:
        if not (message.role in INSTRUCTING and (call.session or not message.content)):
            digest = _chained(digest, message)
            if message.role == "assistant":
                beginnings.append(digest)
    return _Conversation(beginnings[::-1], digest, _chained(digest, call.response))


def _chained(before: str, message: Message) -> str:
    """What clients change when they repeat a message does not count: space around it, thinking, spelling of JSON."""
    role = "system" if message.role in INSTRUCTING else message.role
    content = answer_in(message.content) if role == "assistant" else message.content
    calls = [(call.name, json.dumps(decoded(call.arguments), sort_keys=True)) for call in message.tool_calls]
    return hashlib.sha256(json.dumps([before, role, content.strip(), calls]).encode()).hexdigest()[:32]
