"""`import_logs`: other programs' logs as new episodes of an inbox."""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from oel_core.imports.entries import Entry, entries, files_of, grouped
from oel_core.imports.episode import episode
from oel_core.imports.index import Index, key_of
from oel_core.imports.left_out import Refusals
from oel_core.imports.presidio import Find, finder, nothing
from oel_core.imports.privacy import Masking, Privacy, read_names, salt_of
from oel_core.imports.records import Call, GroupedLines, LogFormat, Rating, Session
from oel_core.imports.stitching import Spool
from oel_core.plugins.builtin import LOG_FORMATS
from oel_core.projects.inbox import not_a_prompt, require_usable
from oel_core.runs.files import sync_folder, writing
from oel_core.runs.jsonl import JsonlWriter, LineError
from oel_core.runs.locks import exclusive
from oel_core.text.invalid import first_problem

LOCK = ".import.lock"
THERE, PRIVATE = "already imported", "private data"
Say = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is (0: unknown)."""


@dataclass(frozen=True)
class Import:
    """What is imported and how."""

    format: str
    """A name of `oel_core.plugins.builtin.LOG_FORMATS`."""
    source: Path
    inbox: Path
    env: str
    """Name of the project's environment."""
    privacy: Privacy = Privacy.MASK
    top_score: float = 1.0
    """The best score that the source gives."""
    names: Path | None = None
    """A file of names that are masked too, one a line."""
    pii: str | None = None
    """A spaCy model with which Presidio looks for names of people, places and more."""


@dataclass
class Imported:
    """What became of a log: every call is in an episode, dropped with a reason, or in an entry that was left out."""

    file: str | None = None
    """Name of the new file of the inbox; None where there was nothing new."""
    entries: int = 0
    calls: int = 0
    ratings: int = 0
    """Records of feedback that is logged apart from the answer."""
    unmatched: int = 0
    """Those of them about an answer, a trace or a session that the log does not have."""
    episodes: int = 0
    turns: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """Reason → calls that are in no new episode."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Reason → entries that hold no usable call."""


def silent(doing: str, done: int, total: int) -> None:
    """The `say` of a caller who shows nothing."""


def import_logs(work: Import, say: Say = silent) -> Imported:
    """Writes the sessions of a log that the inbox does not have yet into a new file of the inbox.

    The file gets its name when it is whole. What cannot be read goes to the inbox's `refused` folder.

    Raises:
        ConfigError: no such format.
        ArtifactError: the source cannot be read or the inbox cannot be written.
        BusyError: another import writes into the same inbox.
    """
    form: LogFormat = LOG_FORMATS.load(work.format)
    paths = files_of(work.source)
    find = finder(work.pii) if work.pii is not None else nothing
    work.inbox.mkdir(parents=True, exist_ok=True)
    with exclusive(work.inbox / LOCK), writing(work.inbox):
        return _import(work, form, paths, find, say)


def _import(work: Import, form: LogFormat, paths: list[Path], find: Find, say: Say) -> Imported:
    done, masking = Imported(), Masking(salt_of(work.inbox), read_names(work.names), find)
    stem = f"{work.format.replace(':', '-')}-{re.sub(r'[^A-Za-z0-9._-]+', '-', work.source.stem)[:60]}"
    with closing(Index(work.inbox)) as index, closing(Spool()) as spool:
        with Refusals(work.inbox, stem, masking, work.privacy) as refusals:
            for entry in _entries(paths, work.source, form, say):
                done.entries += entry.lines
                _take(_found(form, entry, refusals), spool)
        done.calls, done.ratings = spool.calls, spool.ratings
        done.left_out = refusals.reasons
        _write(_kept(spool.sessions(work.format), work, masking, index, done), work, stem, index, done, say)
        done.unmatched = spool.unmatched
        done.dropped = +(done.dropped + spool.dropped)
    return done


def _entries(paths: list[Path], source: Path, form: LogFormat, say: Say) -> Iterator[Entry]:
    total, before = sum(path.stat().st_size for path in paths), 0
    for path in paths:
        found = grouped(path, source, form) if isinstance(form, GroupedLines) else entries(path, source)
        for entry in found:
            say("reading", before + entry.read, total)
            yield entry
        before += path.stat().st_size


def _take(found: list[Call | Rating], spool: Spool) -> None:
    for one in found:
        if isinstance(one, Call):
            spool.add(one)
        else:
            spool.rate(one)


def _found(form: LogFormat, entry: Entry, refusals: Refusals) -> list[Call | Rating]:
    """What an entry holds; nothing where one of its calls cannot be used, since its session would have a hole."""
    read = form.read if isinstance(form, GroupedLines) else form
    try:
        found = list(read(entry.value()))
        for one in found:
            if isinstance(one, Call):
                _require_call(one)
        if not found:
            raise LineError("", "it holds no call of a model")
    except LineError as error:
        refusals.add(entry, error.field, error.reason)
    except ValidationError as error:
        refusals.add(entry, *first_problem(error))
    else:
        return found
    return []


def _require_call(call: Call) -> None:
    problem = not_a_prompt(call.messages)
    if problem:
        raise LineError("messages", problem)
    if not call.response.content and not call.response.tool_calls:
        raise LineError("response", "the answer is empty")


def _kept(
    sessions: Iterator[Session], work: Import, masking: Masking, index: Index, done: Imported
) -> Iterator[tuple[list[bytes], Session]]:
    """What of each session is new and may be written, with the keys of its calls."""
    for session in sessions:
        keyed = [(key_of(work.format, call), call) for call in session.calls]
        new = [(key, call) for key, call in keyed if not index.has(key)]
        done.dropped[THERE] += len(keyed) - len(new)
        if not new:
            continue
        kept = Session(session.format, tuple(_anonymous(call, masking, work.privacy) for _, call in new))
        masked = masking.session(kept) if work.privacy is not Privacy.KEEP else kept
        if work.privacy is Privacy.DROP and masked != kept:
            done.dropped[PRIVATE] += len(new)
            continue
        yield [key for key, _ in new], masked


def _anonymous(call: Call, masking: Masking, privacy: Privacy) -> Call:
    """The call with pseudonyms for the source's ids of session and person, whatever happens to its texts.

    Token ids hold what the text holds, and the thinking too, and cannot be searched: they are kept where all is kept.
    """
    changed: dict[str, object] = {"session": masking.id(call.session), "user": masking.id(call.user)}
    if privacy is not Privacy.KEEP:
        changed |= {"prompt_ids": (), "response_ids": ()}
    return call.model_copy(update=changed)


def _write(
    kept: Iterator[tuple[list[bytes], Session]], work: Import, stem: str, index: Index, done: Imported, say: Say
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
                say("writing", done.turns, 0)
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
    """Files of an inbox may not change, so every import has its own."""
    number = 1
    while (inbox / f"{stem}-{number:03d}.jsonl").exists():
        number += 1
    return f"{stem}-{number:03d}.jsonl"
