"""Which recorded conversations are to be forgotten."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from oel_core.imports.privacy import SALT, Masking


@dataclass(frozen=True)
class Wanted:
    """Conversations of a session or a person, or those that are older than a time, or those that are both."""

    ids: frozenset[str]
    """As episodes hold them: the source's ids, and their pseudonyms under the salt of each inbox."""
    texts: frozenset[str]
    """How an id may stand in a copy of a line that was left out: as it is, escaped, masked or as a pseudonym."""
    before: float | None
    """Seconds since 1970, UTC; None: whenever they were."""

    @classmethod
    def of(cls, ids: Iterable[str], before: float | None, inboxes: Iterable[Path]) -> Self:
        """`ids`: the source's, of sessions or persons."""
        salts = [path.read_bytes() for inbox in inboxes if (path := inbox / SALT).is_file()]
        maskings = [Masking(salt) for salt in salts]
        known, texts = set[str](), set[str]()
        for id in filter(None, ids):
            pseudonyms = {masking.id(id) for masking in maskings}
            known |= {id, *pseudonyms}
            texts |= {id, json.dumps(id)[1:-1], *pseudonyms, *(masking.text(id) for masking in maskings)}
        return cls(frozenset(known), frozenset(texts), before)

    def meets(self, episode: Mapping[str, Any]) -> bool:
        """Whether a recorded episode is one of them. One without a time has no age."""
        if self.ids and not {episode.get("session"), episode.get("user")} & self.ids:
            return False
        at = episode.get("at")
        return self.before is None or (isinstance(at, (int, float)) and at < self.before)

    def meets_copy(self, text: str, written: float) -> bool:
        """Whether the copy of a line that was left out, in a file last written at this time, is to go too."""
        if self.ids and not any(one in text for one in self.texts):
            return False
        return self.before is None or written < self.before
