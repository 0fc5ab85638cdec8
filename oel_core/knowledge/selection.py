"""Selects among a round's knowledge files by their scores, and samples from the selection. Pure functions.

OPCD (arXiv 2602.12275) reports that filtering knowledge by its validation score has the largest effect of all choices:
on Frozen Lake with a 1.7B model it raises the consolidated pass rate from 26.5% to 38.3%.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from oel_core.config.knowledge import SelectionConfig
from oel_core.types import Knowledge

SEEDS = 2**63
"""`derive_seed` gives numbers below it."""


@dataclass(frozen=True)
class Scored:
    """One knowledge file with its score."""

    replica: int
    pass_rate: float
    """In context, on validation episodes."""
    tokens: int


@dataclass(frozen=True)
class Choice:
    """The files that are distilled."""

    replicas: tuple[int, ...]
    """In ascending order."""
    weights: tuple[float, ...] | None
    """Sampling weight of each, adding up to 1; None for uniform sampling."""


def with_text(files: Sequence[Knowledge]) -> list[Knowledge]:
    """The files that are not empty, or all of them if all are: with an empty file the teacher would be the student."""
    return [file for file in files if not file.blank] or list(files)


def choose(files: Sequence[Scored], config: SelectionConfig) -> Choice:
    """The files that `config.use` selects.

    At equal pass rates the shorter text wins, then the lower replica. `weighted` leaves out files that never passed,
    unless no file ever did: then sampling is uniform.
    """
    if config.use == "weighted":
        total = sum(file.pass_rate for file in files)
        kept = sorted((file for file in files if file.pass_rate > 0 or total == 0), key=lambda file: file.replica)
        weights = tuple(file.pass_rate / total for file in kept) if total > 0 else None
        return Choice(tuple(file.replica for file in kept), weights)
    most = {"best": 1, "top_m": config.m}.get(config.use, len(files))
    ranked = sorted(files, key=lambda file: (-file.pass_rate, file.tokens, file.replica))
    return Choice(tuple(sorted(file.replica for file in ranked[:most])), None)


def everyone(files: Sequence[Scored]) -> Choice:
    """All files, sampled uniformly."""
    return Choice(tuple(sorted(file.replica for file in files)), None)


def sample_file(count: int, weights: Sequence[float] | None, seed: int) -> int:
    """The index, below `count`, sampled by `seed` (63 bits)."""
    if weights is None:
        return seed % count
    bounds = list(accumulate(weights))
    return min(bisect_right(bounds, seed / SEEDS * bounds[-1]), count - 1)
