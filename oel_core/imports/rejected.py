"""Unusable entries of a log: copied with file, line, field and reason to the quarantine, and counted."""

import json
import os
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Self

from oel_core.imports.entries import Entry
from oel_core.imports.privacy import Masking, Privacy
from oel_core.projects.quarantine import REFUSED, LeftOut
from oel_core.runs.jsonl import JsonlWriter


class RejectedEntries:
    """A context manager that replaces `<inbox>/refused/<name>.jsonl`, atomically at its end."""

    def __init__(self, inbox: Path, name: str, masking: Masking, privacy: Privacy) -> None:
        """`masking` and `privacy` apply to the copies too."""
        self._path = inbox / REFUSED / f"{name}.jsonl"
        self._partial = self._path.with_name(f".{name}.partial")
        self._partial.unlink(missing_ok=True)
        self._writer: JsonlWriter | None = None
        self._masking, self._privacy = masking, privacy
        self._counts: Counter[str] = Counter()
        self._places: dict[str, str] = {}

    def add(self, entry: Entry, field: str, reason: str) -> None:
        """Adds one entry."""
        raw = entry.raw.decode(errors="backslashreplace") or json.dumps(entry.whole, ensure_ascii=False)
        text = raw if self._privacy is Privacy.KEEP else self._masking.text(raw)
        hidden = self._privacy is Privacy.DROP and text != raw
        one = LeftOut(file=entry.file, line=entry.line, field=field, reason=reason, text="" if hidden else text)
        self._writer = self._writer or JsonlWriter(self._partial)
        self._writer.append(one)
        self._counts[one.problem] += 1
        self._places.setdefault(one.problem, f"{entry.file} line {entry.line}")

    @property
    def reasons(self) -> dict[str, int]:
        """Reason and first position → number of entries, most frequent first."""
        return {f"{problem} (first: {self._places[problem]})": n for problem, n in self._counts.most_common()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.__exit__(kind, error, trace)
            if kind is None:
                os.replace(self._partial, self._path)
        self._partial.unlink(missing_ok=True)
