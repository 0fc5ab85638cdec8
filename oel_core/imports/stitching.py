"""Calls to sessions: each call repeats the conversation so far, so it continues the call whose prompt and answer its
own prompt begins with.

Calls wait in a temporary database on the disk, so memory does not grow with them. Of calls that continue the same one,
the one that was itself continued, then the latest, goes on with the session; others begin one of their own (side
calls, edited messages). An answer to a prompt that was answered again, and a call that was logged twice, are dropped.
Feedback that was logged apart waits with them and is joined to the call that it is about.
"""

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from oel_core.imports.fields import decoded
from oel_core.imports.records import Call, Feedback, Rating, Session
from oel_core.text.thinking import answer_in
from oel_core.types import INSTRUCTING, Message

TWICE, AGAIN = "logged twice", "the request was answered again"
_TABLE = """
create table call (
    position integer primary key, scope text, id text, trace text, request text, prompt text, ending text,
    beginnings text, rated integer, record text, parent integer, continued integer default 0, main integer default 0,
    unique (scope, ending)
);
create table rating (number integer primary key, about text, feedback text, position integer, whole integer);
"""
_MEANT = """
create index by_id on call (id);
create index by_trace on call (trace);
create index rating_of on rating (position);
"""
_LONGEST = """
select position from call where {} = ? order by json_array_length(beginnings) desc, position desc limit 1
"""
_OF = (("id", 0), ("trace", 0), ("scope", 1))
"""Columns that hold an id which feedback can be about, and whether that is the whole session."""
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


class Conversation(NamedTuple):
    """Digests of a call's conversation: two conversations that say the same have the same."""

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
        self.calls = self.ratings = self.unmatched = 0
        """What was taken, and ratings about nothing that the log has."""

    def add(self, call: Call) -> None:
        """Takes a call; the order of the calls is that in which they were made."""
        self.calls += 1
        talk = conversation(call)
        ids = (call.session, call.id, call.trace, call.request)
        row = (*ids, talk.prompt, talk.ending, json.dumps(talk.beginnings), bool(call.feedback), call.model_dump_json())
        found = self._database.execute(
            "insert or ignore into call (scope, id, trace, request, prompt, ending, beginnings, rated, record) "
            "values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            row,
        )
        self.dropped[TWICE] += 1 - found.rowcount

    def rate(self, rating: Rating) -> None:
        """Takes feedback; the call that it is about may come later."""
        row = (json.dumps(rating.about), rating.feedback.model_dump_json())
        self._database.execute("insert into rating (about, feedback) values (?, ?)", row)
        self.ratings += 1

    def sessions(self, format: str) -> Iterator[Session]:
        """Every session once, in the order of their first calls. Nothing is added after this."""
        self._join_ratings()
        self._link()
        heads = self._database.execute("select position, record from call where main = 0 order by position")
        for position, record in heads:
            yield Session(format, tuple(self._calls(position, record)))

    def _join_ratings(self) -> None:
        self._database.executescript(_MEANT)
        for number, about in self._database.execute("select number, about from rating").fetchall():
            meant = next(filter(None, map(self._meant, json.loads(about))), None)
            if meant is None:
                self.unmatched += 1
                continue
            self._database.execute("update rating set position = ?, whole = ? where number = ?", (*meant, number))
            self._database.execute("update call set rated = 1 where position = ?", meant[:1])

    def _meant(self, id: str) -> tuple[int, int] | None:
        """Position of the call that feedback about this goes with, and whether it is about a session.

        Of a trace or a session it is the call whose conversation is the longest, not a side call that came later.
        """
        for column, whole in _OF if id else ():
            row = self._database.execute(_LONGEST.format(column), (id,)).fetchone()
            if row is not None:
                return int(row[0]), whole
        return None

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
            yield self._rated(following[0], Call.model_validate_json(following[1]))
            following = self._database.execute(
                "select position, record from call where parent = ? and main = 1", (following[0],)
            ).fetchone()

    def _rated(self, position: int, call: Call) -> Call:
        rows = self._database.execute(
            "select feedback, whole from rating where position = ? order by number", (position,)
        ).fetchall()
        apart = [
            one.model_copy(update={"whole": one.whole or bool(whole)})
            for one, whole in ((Feedback.model_validate_json(feedback), whole) for feedback, whole in rows)
        ]
        return call.model_copy(update={"feedback": (*call.feedback, *apart)}) if apart else call

    def close(self) -> None:
        """Gives the disk back."""
        self._database.close()


def conversation(call: Call) -> Conversation:
    """The digests of a call's prompt and answer.

    Within a session the system message is not compared: many agents write the time of day into it.
    """
    digest, beginnings = "", []
    for message in call.messages:
        if not (message.role in INSTRUCTING and (call.session or not message.content)):
            digest = _chained(digest, message)
            if message.role == "assistant":
                beginnings.append(digest)
    return Conversation(beginnings[::-1], digest, _chained(digest, call.response))


def _chained(before: str, message: Message) -> str:
    """What clients change when they repeat a message does not count: space around it, thinking, spelling of JSON."""
    role = "system" if message.role in INSTRUCTING else message.role
    content = answer_in(message.content) if role == "assistant" else message.content
    calls = [(call.name, json.dumps(decoded(call.arguments), sort_keys=True)) for call in message.tool_calls]
    return hashlib.sha256(json.dumps([before, role, content.strip(), calls]).encode()).hexdigest()[:32]
