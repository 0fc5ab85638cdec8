"""Selects the recorded conversations to remove."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from oel_core.imports.privacy import SALT, Masking


@dataclass(frozen=True)
class Selection:
    """Conversations of sessions or users, older than a time, or both."""

    ids: frozenset[str]
    """Ids as stored in episodes: the source's ids and their pseudonyms with each inbox's salt."""
    texts: frozenset[str]
    """Forms of an id in a quarantined line: unchanged, JSON-escaped, masked or as a pseudonym."""
    before: float | None
    """Seconds since 1970, UTC; None: any time."""

    @classmethod
    def of(cls, ids: Iterable[str], before: float | None, inboxes: Iterable[Path]) -> Self:
        """`ids`: the source's ids of sessions or users."""
        salts = [path.read_bytes() for inbox in inboxes if (path := inbox / SALT).is_file()]
        maskings = [Masking(salt) for salt in salts]
        known, texts = set[str](), set[str]()
        for id in filter(None, ids):
            pseudonyms = {masking.id(id) for masking in maskings}
            known |= {id, *pseudonyms}
            texts |= {id, json.dumps(id)[1:-1], *pseudonyms, *(masking.text(id) for masking in maskings)}
        return cls(frozenset(known), frozenset(texts), before)

    def matches(self, episode: Mapping[str, Any]) -> bool:
        """Whether a recorded episode is selected. An episode without a time is never older than `before`."""
        if self.ids and not {episode.get("session"), episode.get("user")} & self.ids:
            return False
        at = episode.get("at")
        return self.before is None or (isinstance(at, (int, float)) and at < self.before)

    def matches_copy(self, text: str, written: float) -> bool:
        """Whether a quarantined line is selected; `written`: time of the last change of its file."""
        if self.ids and not any(one in text for one in self.texts):
            return False
        return self.before is None or written < self.before
