"""Experiential knowledge: merging, truncation, comparison, and its pair of files.

`knowledge_03.md` is byte for byte what a model reads; `knowledge_03.json` has the rest: the items with their
provenance, the counts, and the digest of its `.md` file. Items and text always agree.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, ValidationError

from oel_core.errors import ArtifactError
from oel_core.prompts.extraction.base import CountTokens, ExtractionFormat
from oel_core.runs.files import write_atomic
from oel_core.runs.manifest import digest_bytes
from oel_core.text.invalid import described
from oel_core.types import ExperienceItem, Knowledge, Record

SCHEMA = 1


class KnowledgeSidecar(Record):
    """The `.json` beside a knowledge text: a `Knowledge` whose text is replaced by its digest."""

    schema_version: int = Field(default=SCHEMA, ge=SCHEMA, le=SCHEMA)
    digest: str
    replica: int = Field(ge=0)
    round: int = Field(ge=1)
    items: tuple[ExperienceItem, ...]
    tokens: int = Field(ge=0)
    dropped_over_cap: int = Field(ge=0)
    dropped_duplicates: int = Field(ge=0)
    validation_score: float | None


@dataclass(frozen=True)
class KnowledgeDiff:
    """The difference between two states of knowledge; items with the same text are the same."""

    new: tuple[ExperienceItem, ...]
    dropped: tuple[ExperienceItem, ...]
    kept: tuple[ExperienceItem, ...]


def empty(replica: int, round_index: int) -> Knowledge:
    """Knowledge before the first episode."""
    return Knowledge(replica=replica, round=round_index, items=(), text="", tokens=0)


def render(items: Sequence[ExperienceItem]) -> str:
    """The text that a model reads: the items, oldest first, without a final line end."""
    return "\n".join(item.text for item in items)


def merge(
    knowledge: Knowledge,
    new_items: Sequence[ExperienceItem],
    *,
    max_tokens: int,
    form: ExtractionFormat,
    count_tokens: CountTokens,
) -> Knowledge:
    """Appends items, newest last, and removes the oldest ones that exceed `max_tokens`.

    An exact duplicate (except for white space) is dropped and counted; its sources are added to the kept item, which
    keeps its position. The text is truncated by `form.truncate` alone, so it is cut between the format's units: whole
    items or, for free text, whole lines. A new item of which no part fits by itself is dropped alone, since otherwise
    it would remove all older knowledge. A change of the text clears the validation score.
    """
    merged = [_stripped(item) for item in knowledge.items]
    position = {item_key(item.text): index for index, item in reversed(list(enumerate(merged)))}
    duplicates = oversized = 0
    for item in map(_stripped, new_items):
        key = item_key(item.text)
        if key in position:
            duplicates += 1
            kept = merged[position[key]]
            sources = tuple(dict.fromkeys((*kept.sources, *item.sources)))
            merged[position[key]] = kept.model_copy(update={"sources": sources})
        elif key and _fits(item.text, max_tokens, form, count_tokens):
            position[key] = len(merged)
            merged.append(item)
        elif key:
            oversized += 1
    items, dropped = _cut(tuple(merged), max_tokens, form, count_tokens)
    text = render(items)
    return knowledge.model_copy(
        update={
            "items": items,
            "text": text,
            "tokens": count_tokens(text) if text else 0,
            "dropped_over_cap": knowledge.dropped_over_cap + dropped + oversized,
            "dropped_duplicates": knowledge.dropped_duplicates + duplicates,
            "validation_score": knowledge.validation_score if text == knowledge.text else None,
        }
    )


def item_key(text: str) -> str:
    """The text without white space differences; equal for duplicates."""
    return " ".join(text.split())


def _fits(text: str, max_tokens: int, form: ExtractionFormat, count: CountTokens) -> bool:
    """Whether the item, or for free text a part of it, fits within the cap by itself."""
    return count(text) <= max_tokens or bool(form.truncate(text, max_tokens, count))


def _stripped(item: ExperienceItem) -> ExperienceItem:
    text = item.text.strip()
    return item if text == item.text else item.model_copy(update={"text": text})


def _cut(
    items: tuple[ExperienceItem, ...], max_tokens: int, form: ExtractionFormat, count: CountTokens
) -> tuple[tuple[ExperienceItem, ...], int]:
    """The items that `form.truncate` keeps of the rendered text, and how many were removed whole."""
    text = render(items)
    if not text or count(text) <= max_tokens:
        return items, 0
    room = len(form.truncate(text, max_tokens, count))
    kept: list[ExperienceItem] = []
    for item in reversed(items):
        part = item.text[-room:].strip() if room > 0 else ""
        if not part:
            break
        kept.append(item.model_copy(update={"text": part}))
        room -= len(item.text) + 1
    return tuple(reversed(kept)), len(items) - len(kept)


def diff(old: Knowledge, new: Knowledge) -> KnowledgeDiff:
    """Items that were added, removed and kept, each in its own file's order (kept: the order in `new`)."""
    before = {item_key(item.text) for item in old.items}
    after = {item_key(item.text) for item in new.items}
    return KnowledgeDiff(
        new=tuple(item for item in new.items if item_key(item.text) not in before),
        dropped=tuple(item for item in old.items if item_key(item.text) not in after),
        kept=tuple(item for item in new.items if item_key(item.text) in before),
    )


def paths(folder: Path, replica: int) -> tuple[Path, Path]:
    """Paths of a replica's text and its sidecar."""
    return folder / f"knowledge_{replica:02d}.md", folder / f"knowledge_{replica:02d}.json"


def replicas(files: Iterable[str]) -> list[int]:
    """The replicas with a text among the files of a finished stage, in order."""
    found = (re.fullmatch(r"knowledge_(\d+)\.md", name) for name in files)
    return sorted(int(match[1]) for match in found if match)


def write_knowledge(folder: Path, replica: int, knowledge: Knowledge) -> None:
    """Writes both files atomically, the sidecar last; its digest reveals a kill in between."""
    text_path, sidecar_path = paths(folder, replica)
    fields = knowledge.model_dump(exclude={"text"})
    sidecar = KnowledgeSidecar(digest=digest_bytes(knowledge.text.encode()), **fields)
    write_atomic(text_path, knowledge.text.encode())
    write_atomic(sidecar_path, (sidecar.model_dump_json(indent=1) + "\n").encode())


def load_knowledge(
    folder: Path, replica: int, *, max_tokens: int | None = None, count_tokens: CountTokens | None = None
) -> Knowledge:
    """Reads a replica's pair of files.

    `max_tokens` is the cap to check against (None for no check); with `count_tokens` the tokens are counted again
    instead of using the recorded number.

    Raises:
        ArtifactError: a file is missing, invalid, edited or over the cap, or the two do not belong together.
    """
    text_path, sidecar_path = paths(folder, replica)
    text = _decode(text_path)
    sidecar = _parse_sidecar(sidecar_path)
    found = digest_bytes(text.encode())
    if found != sidecar.digest:
        raise ArtifactError(
            f"{text_path} is not the text that {sidecar_path.name} describes (digest {found}, recorded "
            f"{sidecar.digest}): it was edited or half written. Run the accumulate stage again, or restore the file"
        )
    if render(sidecar.items) != text:
        raise ArtifactError(
            f"{sidecar_path}: its items do not make up {text_path.name}. Run the accumulate stage again"
        )
    if sidecar.replica != replica:
        raise ArtifactError(f"{sidecar_path} belongs to replica {sidecar.replica}, not {replica}: restore its own name")
    tokens = count_tokens(text) if count_tokens and text else sidecar.tokens
    if max_tokens is not None and tokens > max_tokens:
        raise ArtifactError(
            f"{text_path} has {tokens} tokens, over knowledge.max_tokens = {max_tokens}: raise that cap, or run the "
            "accumulate stage again under it"
        )
    return Knowledge(text=text, **(sidecar.model_dump(exclude={"schema_version", "digest"}) | {"tokens": tokens}))


def _decode(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} is missing. Run the accumulate stage again, or restore the file") from error
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read ({error.strerror}). Restore the file") from error
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{path} is not UTF-8 text ({error}). Run the accumulate stage again") from error


def _parse_sidecar(path: Path) -> KnowledgeSidecar:
    try:
        return KnowledgeSidecar.model_validate_json(_decode(path))
    except ValidationError as error:
        raise ArtifactError(f"{path}: {described(error, 'the file')}. Run the accumulate stage again") from error
