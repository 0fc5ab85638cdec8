"""`import_logs` imports logs of other programs as new episodes of an inbox."""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import islice, tee
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from oel_core.config.serving import LOCAL_RUNNER, RunnerConfig
from oel_core.imports.anonymous import Anonymise, Anonymiser, anonymising
from oel_core.imports.entries import Entry, entries, files_of, grouped
from oel_core.imports.episode import episode
from oel_core.imports.index import Index, key_of
from oel_core.imports.presidio import finder
from oel_core.imports.privacy import Masking, Privacy, read_names, salt_of
from oel_core.imports.records import Call, GroupedLines, LogFormat, Rating, Session
from oel_core.imports.rejected import RejectedEntries
from oel_core.imports.stitching import CallStore
from oel_core.plugins.builtin import LOG_FORMATS
from oel_core.projects.inbox import not_a_prompt, require_usable
from oel_core.runs.files import sync_folder, writing
from oel_core.runs.jsonl import JsonlWriter, LineError
from oel_core.runs.locks import exclusive
from oel_core.text.invalid import first_problem

LOCK = ".import.lock"
ALREADY_IMPORTED, PRIVATE = "already imported", "private data"
BATCH = 32
"""Sessions that are anonymised together."""
Item = TypeVar("Item")
OnProgress = Callable[[str, int, int], None]
"""(activity, done, total); a total of 0 is unknown."""


@dataclass(frozen=True)
class Import:
    """The settings of an import."""

    format: str
    """A name of `oel_core.plugins.builtin.LOG_FORMATS`."""
    source: Path
    inbox: Path
    env: str
    """Name of the project's environment."""
    privacy: Privacy = Privacy.MASK
    top_score: float = 1.0
    """The source's best score."""
    names: Path | None = None
    """A file of further names to mask, one per line."""
    pii: str | None = None
    """A spaCy model with which Presidio detects names of people, places and other personal data."""
    runner: RunnerConfig = LOCAL_RUNNER
    """Where sessions are anonymised, which takes half of an import's time, with Presidio far more."""


@dataclass
class Imported:
    """The result of an import: every call is in an episode, dropped with a reason, or in a rejected entry."""

    file: str | None = None
    """Name of the new file in the inbox; None if there was nothing new."""
    entries: int = 0
    calls: int = 0
    ratings: int = 0
    """Separately logged records of feedback."""
    unmatched: int = 0
    """Those whose answer, trace or session is not in the log."""
    episodes: int = 0
    turns: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """Reason → number of dropped calls."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Reason → number of rejected entries."""


def no_progress(doing: str, done: int, total: int) -> None:
    """The default callback: does nothing."""


def import_logs(work: Import, on_progress: OnProgress = no_progress) -> Imported:
    """Writes the sessions of a log that are not in the inbox yet to a new file of the inbox.

    The file is renamed into place when complete. Unusable entries are copied to the inbox's `refused` folder.

    Raises:
        ConfigError: no such format.
        ArtifactError: the source cannot be read or the inbox cannot be written.
        BusyError: another import writes into the same inbox.
        ConfigError, PolicyError: as `anonymising`.
    """
    form: LogFormat = LOG_FORMATS.load(work.format)
    paths = files_of(work.source)
    if work.pii is not None:
        finder(work.pii)
    work.inbox.mkdir(parents=True, exist_ok=True)
    with exclusive(work.inbox / LOCK), writing(work.inbox):
        settings = Anonymiser(work.privacy, salt_of(work.inbox), read_names(work.names), work.pii)
        with anonymising(settings, work.runner) as anonymise:
            return _import(work, form, paths, settings.masking(), anonymise, on_progress)


def _import(
    work: Import, form: LogFormat, paths: list[Path], masking: Masking, anonymise: Anonymise, on_progress: OnProgress
) -> Imported:
    done = Imported()
    stem = f"{work.format.replace(':', '-')}-{re.sub(r'[^A-Za-z0-9._-]+', '-', work.source.stem)[:60]}"
    with closing(Index(work.inbox)) as index, closing(CallStore()) as store:
        with RejectedEntries(work.inbox, stem, masking, work.privacy) as rejected:
            for entry in _entries(paths, work.source, form, on_progress):
                done.entries += entry.lines
                _store(_parsed(form, entry, rejected), store)
        done.calls, done.ratings = store.calls, store.ratings
        done.left_out = rejected.reasons
        new = _new_sessions(store.sessions(work.format), work.format, index, done)
        _write(_anonymous(new, anonymise, done), work, stem, index, done, on_progress)
        done.unmatched = store.unmatched
        done.dropped = +(done.dropped + store.dropped)
    return done


def _entries(paths: list[Path], source: Path, form: LogFormat, on_progress: OnProgress) -> Iterator[Entry]:
    total, before = sum(path.stat().st_size for path in paths), 0
    for path in paths:
        found = grouped(path, source, form) if isinstance(form, GroupedLines) else entries(path, source)
        for entry in found:
            on_progress("reading", before + entry.read, total)
            yield entry
        before += path.stat().st_size


def _store(found: list[Call | Rating], store: CallStore) -> None:
    for one in found:
        if isinstance(one, Call):
            store.add(one)
        else:
            store.add_rating(one)


def _parsed(form: LogFormat, entry: Entry, rejected: RejectedEntries) -> list[Call | Rating]:
    """The calls and feedback of an entry; none if any of its calls is unusable, so that no session has a gap."""
    read = form.read if isinstance(form, GroupedLines) else form
    try:
        found = list(read(entry.value()))
        for one in found:
            if isinstance(one, Call):
                _require_call(one)
        if not found:
            raise LineError("", "it holds no call of a model")
    except LineError as error:
        rejected.add(entry, error.field, error.reason)
    except ValidationError as error:
        rejected.add(entry, *first_problem(error))
    else:
        return found
    return []


def _require_call(call: Call) -> None:
    problem = not_a_prompt(call.messages)
    if problem:
        raise LineError("messages", problem)
    if not call.response.content and not call.response.tool_calls:
        raise LineError("response", "the answer is empty")


def _new_sessions(
    sessions: Iterator[Session], format: str, index: Index, done: Imported
) -> Iterator[tuple[list[bytes], Session]]:
    """The new calls of each session, with their keys. No call is in two sessions, so none waits for the index."""
    for session in sessions:
        keyed = [(key_of(format, call), call) for call in session.calls]
        new = [(key, call) for key, call in keyed if not index.has(key)]
        done.dropped[ALREADY_IMPORTED] += len(keyed) - len(new)
        if new:
            yield [key for key, _ in new], Session(session.format, tuple(call for _, call in new))


def _anonymous(
    new: Iterator[tuple[list[bytes], Session]], anonymise: Anonymise, done: Imported
) -> Iterator[tuple[list[bytes], Session]]:
    """The sessions that are kept, anonymised, with the keys of their calls."""
    keyed, given = tee(_batches(new))
    found = anonymise([session for _, session in batch] for batch in given)
    for batch, sessions in zip(keyed, found, strict=True):
        for (keys, _), session in zip(batch, sessions, strict=True):
            if session is None:
                done.dropped[PRIVATE] += len(keys)
            else:
                yield keys, session


def _batches(items: Iterator[Item]) -> Iterator[list[Item]]:
    while batch := list(islice(items, BATCH)):
        yield batch


def _write(
    kept: Iterator[tuple[list[bytes], Session]],
    work: Import,
    stem: str,
    index: Index,
    done: Imported,
    on_progress: OnProgress,
) -> None:
    name = _free_name(work.inbox, stem)
    partial = work.inbox / f".{name}.partial"
    partial.unlink(missing_ok=True)
    try:
        with JsonlWriter(partial) as file:
            for keys, session in kept:
                id = f"{work.format}-{keys[0].hex()[:16]}"
                found = episode(session, id, work.env, done.episodes, work.top_score)
                require_usable(found, work.env)
                file.append(found)
                for key in keys:
                    index.note(key, name)
                done.episodes, done.turns = done.episodes + 1, done.turns + len(found.turns)
                on_progress("writing", done.turns, 0)
        if done.episodes:
            index.announce(name)
            os.replace(partial, work.inbox / name)
            sync_folder(work.inbox)
            index.confirm(name)
            done.file = name
    finally:
        with suppress(FileNotFoundError):
            partial.unlink()


def _free_name(inbox: Path, stem: str) -> str:
    """An unused file name: files of an inbox never change, so every import writes a new one."""
    number = 1
    while (inbox / f"{stem}-{number:03d}.jsonl").exists():
        number += 1
    return f"{stem}-{number:03d}.jsonl"
