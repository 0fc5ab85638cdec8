"""The knowledge of each round for a report: changes, provenance, flags."""

from collections.abc import Iterable
from dataclasses import dataclass

from oel_core.config.run import OelConfig
from oel_core.knowledge.contradictions import contradictions
from oel_core.knowledge.hygiene import FlaggedItem
from oel_core.knowledge.store import diff, empty, load_knowledge, replicas
from oel_core.projects.review import Decision
from oel_core.runs.folder import RunFolder
from oel_core.runs.jsonl import read_jsonl
from oel_core.runs.manifest import read_record
from oel_core.runs.round_start import knowledge_before
from oel_core.stages import review
from oel_core.stages.accumulate import FLAGGED, STAGE
from oel_core.types import ExperienceItem, Knowledge

SOURCES_SHOWN = 3


@dataclass(frozen=True)
class ItemView:
    """One item of a diff."""

    mark: str
    """`+` new, `-` gone, or a space."""
    text: str
    sources: str
    round: int


@dataclass(frozen=True)
class FileView:
    """One replica's knowledge compared with the previous knowledge."""

    replica: int
    tokens: int
    new: int
    gone: int
    items: list[ItemView]


@dataclass(frozen=True)
class LearnedView:
    """The knowledge of one round."""

    number: int
    files: list[FileView]
    contradictions: list[list[tuple[int, str]]]
    """Groups of (replica, text) of items with the same subject and different statements."""
    flagged: list[FlaggedItem]
    review: Decision | None


def learned(config: OelConfig, run: RunFolder) -> list[LearnedView]:
    """Every round whose knowledge has been accumulated."""
    return [_learned(run, number) for number in range(1, config.rounds + 1) if run.has(number, STAGE)]


def _learned(run: RunFolder, number: int) -> LearnedView:
    folder = run.stage_path(number, STAGE)
    flagged = list(read_jsonl(folder / FLAGGED, FlaggedItem)) if (folder / FLAGGED).exists() else []
    states = [before_and_after(run, number, replica) for replica in known_replicas(run, number)]
    reviewed = run.stage_path(number, review.STAGE) / review.REVIEW
    decision = read_record(reviewed, Decision) if run.has(number, review.STAGE) else None
    found = _contradictions([new for _, new in states])
    return LearnedView(number, [_file(old, new) for old, new in states], found, flagged, decision)


def _contradictions(files: list[Knowledge]) -> list[list[tuple[int, str]]]:
    items = [(file.replica, item) for file in files for item in file.items]
    groups = contradictions([item for _, item in items])
    return [[(items[place][0], items[place][1].text) for place in group] for group in groups]


def known_replicas(run: RunFolder, number: int) -> list[int]:
    """Replicas with accumulated knowledge in a round; later rounds of a project may have others."""
    return replicas(run.manifest(number, STAGE).outputs)


def before_and_after(run: RunFolder, number: int, replica: int) -> tuple[Knowledge, Knowledge]:
    """A replica's previous knowledge, empty if there is none, and its knowledge in the round."""
    new = load_knowledge(run.stage_path(number, STAGE), replica)
    before = knowledge_before(run, number)
    if before is None or not run.has(before, STAGE) or replica not in known_replicas(run, before):
        return empty(replica, number), new
    return load_knowledge(run.stage_path(before, STAGE), replica), new


def _file(old: Knowledge, new: Knowledge) -> FileView:
    changes = diff(old, new)
    items = [*_views("-", changes.dropped), *_views(" ", changes.kept), *_views("+", changes.new)]
    return FileView(new.replica, new.tokens, len(changes.new), len(changes.dropped), items)


def _views(mark: str, items: Iterable[ExperienceItem]) -> list[ItemView]:
    return [ItemView(mark, item.text, _sources(item), item.round) for item in items]


def _sources(item: ExperienceItem) -> str:
    more = len(item.sources) - SOURCES_SHOWN
    return ", ".join(item.sources[:SOURCES_SHOWN]) + (f" and {more} more" if more > 0 else "")
