"""Knowledge items and models derived from given episodes of a run."""

from collections.abc import Collection, Mapping
from pathlib import Path

from oel_core.knowledge.store import KnowledgeSidecar
from oel_core.rounds.knowledge import ACCUMULATE, REVIEW, SELECT
from oel_core.runs.folder import RunFolder
from oel_core.runs.manifest import read_record
from oel_core.runs.round_start import parent_of
from oel_core.types import Record


class LearnedItem(Record):
    """An item of a knowledge file that came from one of the episodes."""

    file: str
    """Path relative to the run's folder."""
    item: int
    """From 1."""
    text: str


def learned_items(run: RunFolder, ids: Collection[str]) -> list[LearnedItem]:
    """Items of all finished knowledge files that name one of these episodes as a source."""
    found = []
    for stage in run.stages():
        if stage.name in (ACCUMULATE, REVIEW, SELECT):
            for path in sorted(stage.glob("knowledge_*.json")):
                found += _items(path, run, ids)
    return found


def _items(path: Path, run: RunFolder, ids: Collection[str]) -> list[LearnedItem]:
    name = path.relative_to(run.path).as_posix()
    items = enumerate(read_record(path, KnowledgeSidecar).items, start=1)
    return [
        LearnedItem(file=name, item=number, text=item.text) for number, item in items if set(item.sources) & set(ids)
    ]


def dependent_rounds(
    run: RunFolder, episodes: Mapping[int, Collection[str]], items: Collection[LearnedItem]
) -> list[int]:
    """Rounds whose model was trained on the episodes or items, directly or through an earlier round's model.

    Args:
        episodes: round → ids of its episodes.
        items: the result of `learned_items`.
    """
    direct = {index for index, ids in episodes.items() if ids}
    direct |= {int(item.file.split("/")[0].removeprefix("round_")) for item in items}
    dependent = set[int]()
    for index in run.rounds():  # a round's parent is an earlier one
        if index and (index in direct or parent_of(run, index) in dependent) and run.has(index, "distill"):
            dependent.add(index)
    return sorted(dependent)
