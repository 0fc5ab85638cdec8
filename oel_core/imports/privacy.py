"""Masks secrets and personal data in every text of a session before it is stored.

A pseudonym is a salted digest. The salt stays in the inbox's folder, so equal values have equal pseudonyms in every
import, and without the salt values cannot be found by guessing.
"""

import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Sequence
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any

from oel_core.config.knowledge import Check
from oel_core.errors import ConfigError
from oel_core.imports.fields import decoded
from oel_core.imports.presidio import OTHER, PERSON, PLACE, Find, find_nothing
from oel_core.imports.records import Call, Feedback, Session
from oel_core.knowledge.hygiene.private import Found, private_data
from oel_core.types import Message, Tool, ToolCall

SALT = ".import-salt"
NAME = "a listed name"
_WORDS = {
    "an e-mail address": "email",
    "a phone number": "phone",
    "a payment card number": "card",
    "a bank account number": "account",
    NAME: "name",
    PERSON: "person",
    PLACE: "place",
    OTHER: "data",
}
PSEUDONYM = re.compile(rf"<({'|'.join([*_WORDS.values(), 'secret'])})-[0-9a-f]{{8}}>")
"""Matches a pseudonym; the group is the kind of data."""
_NEVER = re.compile(r"(?!)")
_RANDOM = "a token that looks random"


class Privacy(StrEnum):
    """Treatment of private data."""

    MASK = "mask"
    """Replaced by pseudonyms."""
    DROP = "drop"
    """Sessions with private data are dropped."""
    KEEP = "keep"


def salt_of(inbox: Path) -> bytes:
    """The inbox's salt, created at first use with mode 0600."""
    path = inbox / SALT
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_bytes()
    with os.fdopen(handle, "wb") as file:
        file.write(secrets.token_bytes(32))
    return path.read_bytes()


def read_names(path: Path | None) -> tuple[str, ...]:
    """The names in a file, one per line; empty lines and lines starting with `#` are ignored. None: no names.

    Raises:
        ConfigError: the file cannot be read, or is not UTF-8 text.
    """
    if path is None:
        return ()
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--names {path} cannot be read ({error}): give a text file with one name a line") from error
    return tuple(name for line in lines if (name := line.strip()) and not name.startswith("#"))


class Masking:
    """Replaces private data in texts by pseudonyms such as `<email-3f2a91c0>`."""

    def __init__(self, salt: bytes, names: Sequence[str] = (), find: Find = find_nothing) -> None:
        """Masks the patterns' findings and the following.

        Args:
            names: words, such as names of people; case and spacing are ignored.
            find: a further detector, not used for ids and names of functions.
        """
        self._salt, self._find = salt, find
        self._names = _pattern(names)
        self.text = lru_cache(maxsize=4096)(self._text)  # every call repeats the conversation so far

    def session(self, session: Session) -> Session:
        """The session with every text masked."""
        return Session(session.format, tuple(map(self.call, session.calls)))

    def id(self, id: str) -> str:
        """The pseudonym of a source's id of a session or user; empty for an empty one."""
        return hmac.new(self._salt, id.encode(), hashlib.sha256).hexdigest()[:16] if id else ""

    def call(self, call: Call) -> Call:
        """The call with every text masked; token ids of changed texts are removed."""
        changed = {
            "messages": tuple(map(self.message, call.messages)),
            "response": self.message(call.response),
            "model": self._name(call.model),
            "text": self.text(call.text),
            "feedback": tuple(map(self.feedback, call.feedback)),
        }
        if changed["messages"] != call.messages:
            changed["prompt_ids"] = ()
        if (changed["response"], changed["text"]) != (call.response, call.text):
            changed["response_ids"] = ()
        return call.model_copy(update=changed)

    def message(self, message: Message) -> Message:
        """The message with every text, name and id masked."""
        calls = [
            ToolCall(id=self._name(one.id), name=self._name(one.name), arguments=self.text(one.arguments))
            for one in message.tool_calls
        ]
        tools = [
            Tool(
                name=self._name(one.name),
                description=self.text(one.description),
                parameters=self.text(one.parameters),
            )
            for one in message.tools
        ]
        id = message.tool_call_id
        changed = {"content": self.text(message.content), "tool_calls": tuple(calls), "tools": tuple(tools)}
        return message.model_copy(update=changed | {"tool_call_id": None if id is None else self._name(id)})

    def feedback(self, one: Feedback) -> Feedback:
        """The feedback with every text masked."""
        texts = ("name", "label", "comment", "correction", "expected", "rubric")
        return one.model_copy(update={name: self.text(getattr(one, name)) for name in texts})

    def _text(self, text: str) -> str:
        """JSON is masked value by value and stays valid; in other text findings are replaced."""
        document = decoded(text)
        if document is text:
            return self._masked(text, 0)
        masked = self._values(document, "")
        return text if masked == document else json.dumps(masked, ensure_ascii=False)

    def _values(self, value: Any, key: str) -> Any:
        if isinstance(value, dict):
            return {self._masked(name, 0, more=False): self._values(each, name) for name, each in value.items()}
        if isinstance(value, list):
            return [self._values(each, key) for each in value]
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            return value
        plain = str(value)
        before = f"{key}: " if key else ""
        masked = self._masked(before + plain, len(before))
        return value if masked == plain else masked

    def _name(self, name: str) -> str:
        """Masks an id or a name: random strings are no secrets here, and pseudonyms have no brackets."""
        found = self._places(name, _RANDOM, more=False)
        return name if not found else self._masked(name, 0, more=False).translate({60: "", 62: ""})

    def _masked(self, text: str, start: int, *, more: bool = True) -> str:
        """The text after `start`, masked; the text before it is only context.

        Without `more` the detector is not used, since names of fields are no names of people.
        """
        parts, at = [], start
        for place in self._places(text, more=more):
            begin = max(place.start, start)
            if place.end <= at:
                continue
            parts += [text[at:begin], self._pseudonym(place.what, text[max(begin, at) : place.end])]
            at = place.end
        return "".join([*parts, text[at:]])

    def _pseudonym(self, what: str, text: str) -> str:
        same = " ".join(text.casefold().split()) if what == NAME else text
        digest = hmac.new(self._salt, same.encode(), hashlib.sha256).hexdigest()[:8]
        return f"<{_WORDS.get(what, 'secret')}-{digest}>"

    def _places(self, text: str, but: str = "", *, more: bool) -> list[Found]:
        """Findings sorted by start, then longest first."""
        named = (Found(Check.PERSONAL_DATA, NAME, match.start(), match.end()) for match in self._names.finditer(text))
        found = [one for one in private_data(text) if one.check is not Check.LINK and one.what != but]
        further = self._find(text) if more else ()
        return sorted([*found, *named, *further], key=lambda one: (one.start, -one.end))


def _pattern(names: Sequence[str]) -> re.Pattern[str]:
    """Matches any of the names as whole words; an underscore separates words, as in identifiers."""
    spaced = [r"\s+".join(map(re.escape, name.split())) for name in sorted(names, key=len, reverse=True)]
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(spaced)})(?![^\W_])", re.IGNORECASE) if spaced else _NEVER
