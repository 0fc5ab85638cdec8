"""What an item is worth by measurement: the files that have it against those that do not, on validation episodes."""

import math
from collections.abc import Mapping, Sequence

from oel_core.knowledge.selection_records import Score
from oel_core.knowledge.store import item_key
from oel_core.types import Knowledge

CLEAR = 2.0
"""Standard errors from zero beyond which a difference counts."""


def item_values(files: Sequence[Knowledge], scores: Mapping[int, Score]) -> dict[str, float]:
    """`item_key` → pass rate of the files with the item minus that of the files without it, where that is clear.

    Items that always occur together share a value, so this says which items to look at rather than what causes it.
    Items of all files or of none that was scored have no value.

    Args:
        scores: replica → its file's score. Files with equal texts were played once and count once.
    """
    by_text = {file.text: file for file in files if file.replica in scores}
    found: dict[str, float] = {}
    own = [({item_key(item.text) for item in file.items}, scores[file.replica]) for file in by_text.values()]
    for key in dict.fromkeys(key for keys, _ in own for key in keys):
        value = _difference(
            [score for keys, score in own if key in keys], [score for keys, score in own if key not in keys]
        )
        if value is not None:
            found[key] = value
    return found


def _difference(having: Sequence[Score], lacking: Sequence[Score]) -> float | None:
    """The difference of two groups' pass rates; None within `CLEAR` standard errors of the pooled rate."""
    counts = [(sum(one.passed for one in group), sum(one.episodes for one in group)) for group in (having, lacking)]
    if not all(episodes for _, episodes in counts):
        return None
    (passed, played), (passed_without, played_without) = counts
    pooled = (passed + passed_without) / (played + played_without)
    error = math.sqrt(pooled * (1 - pooled) * (1 / played + 1 / played_without))
    difference = passed / played - passed_without / played_without
    return difference if abs(difference) > CLEAR * error else None
