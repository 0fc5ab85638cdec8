"""Stitches calls into sessions: a call continues the one whose prompt and answer are the longest prefix of its prompt.

Calls are kept in a temporary database on disk, so memory stays bounded. If several calls continue the same one, the one
that is itself continued, else the latest, belongs to the session; the others start sessions (side calls, edited
messages). Answers that were regenerated and duplicates of a call are dropped. Separately logged feedback is attached to
its call.
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

DUPLICATE, REGENERATED = "logged twice", "the request was answered again"
_TABLE = """
create table call (
    position integer primary key, scope text, id text, trace text, request text, prompt text, ending text,
    prefixes text, rated integer, record text, parent integer, continued integer default 0, main integer default 0,
    unique (scope, ending)
);
create table rating (number integer primary key, about text, feedback text, position integer, whole integer);
"""
_INDICES = """
create index by_id on call (id);
create index by_trace on call (trace);
create index rating_of on rating (position);
"""
_LONGEST_CONVERSATION = """
select position from call where {} = ? order by json_array_length(prefixes) desc, position desc limit 1
"""
_ID_COLUMNS = (("id", 0), ("trace", 0), ("scope", 1))
"""Columns with ids that feedback can refer to, and whether such feedback is on the whole session."""
_PARENTS = """
create index by_parent on call (parent);
update call set continued = exists (select 1 from call as next where next.parent = call.position);
"""
_REGENERATED = """
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
    """Digests of a call's conversation: equal for equal content."""

    prefixes: list[str]
    """Digests of the prompt's prefixes that end with an answer, longest first."""
    prompt: str
    ending: str
    """Digest of prompt and answer."""


class CallStore:
    """Collects calls and feedback, then yields sessions."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("")  # SQLite's name for a file that goes with the connection
        self._database.executescript(_TABLE)
        self.dropped: Counter[str] = Counter()
        """Reason → calls that are in no session."""
        self.calls = self.ratings = self.unmatched = 0
        """Numbers of calls and ratings added, and of ratings without a call."""

    def add(self, call: Call) -> None:
        """Adds a call; calls must be added in the order in which they were made."""
        self.calls += 1
        digests = conversation(call)
        ids = (call.session, call.id, call.trace, call.request)
        row = (
            *ids,
            digests.prompt,
            digests.ending,
            json.dumps(digests.prefixes),
            bool(call.feedback),
            call.model_dump_json(),
        )
        found = self._database.execute(
            "insert or ignore into call (scope, id, trace, request, prompt, ending, prefixes, rated, record) "
            "values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            row,
        )
        self.dropped[DUPLICATE] += 1 - found.rowcount

    def add_rating(self, rating: Rating) -> None:
        """Adds feedback; its call may be added later."""
        row = (json.dumps(rating.about), rating.feedback.model_dump_json())
        self._database.execute("insert into rating (about, feedback) values (?, ?)", row)
        self.ratings += 1

    def sessions(self, format: str) -> Iterator[Session]:
        """All sessions, in the order of their first calls. Nothing may be added afterwards."""
        self._join_ratings()
        self._link()
        heads = self._database.execute("select position, record from call where main = 0 order by position")
        for position, record in heads:
            yield Session(format, tuple(self._calls(position, record)))

    def _join_ratings(self) -> None:
        self._database.executescript(_INDICES)
        for number, about in self._database.execute("select number, about from rating").fetchall():
            target = next(filter(None, map(self._target, json.loads(about))), None)
            if target is None:
                self.unmatched += 1
                continue
            self._database.execute("update rating set position = ?, whole = ? where number = ?", (*target, number))
            self._database.execute("update call set rated = 1 where position = ?", target[:1])

    def _target(self, id: str) -> tuple[int, int] | None:
        """Position of the call to which feedback on this id is attached, and whether it is on a session.

        For a trace or session this is the call with the longest conversation, not a later side call.
        """
        for column, whole in _ID_COLUMNS if id else ():
            row = self._database.execute(_LONGEST_CONVERSATION.format(column), (id,)).fetchone()
            if row is not None:
                return int(row[0]), whole
        return None

    def _link(self) -> None:
        for position, scope, prefixes in self._database.execute("select position, scope, prefixes from call"):
            parent = next(filter(None, (self._ending(scope, each) for each in json.loads(prefixes))), None)
            if parent is not None:
                self._database.execute("update call set parent = ? where position = ?", (parent, position))
        self._database.executescript(_PARENTS)
        self.dropped[REGENERATED] += self._database.execute(_REGENERATED).rowcount
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
        """Deletes the temporary database."""
        self._database.close()


def conversation(call: Call) -> Conversation:
    """The digests of a call's prompt and answer.

    Within a session the system message is ignored, because many agents put the current time into it.
    """
    digest, prefixes = "", []
    for message in call.messages:
        if not (message.role in INSTRUCTING and (call.session or not message.content)):
            digest = _chained(digest, message)
            if message.role == "assistant":
                prefixes.append(digest)
    return Conversation(prefixes[::-1], digest, _chained(digest, call.response))


def _chained(before: str, message: Message) -> str:
    """Extends a digest by a message, ignoring what clients change when repeating it: space, thinking, JSON format."""
    role = "system" if message.role in INSTRUCTING else message.role
    content = answer_in(message.content) if role == "assistant" else message.content
    calls = [(call.name, json.dumps(decoded(call.arguments), sort_keys=True)) for call in message.tool_calls]
    return hashlib.sha256(json.dumps([before, role, content.strip(), calls]).encode()).hexdigest()[:32]
