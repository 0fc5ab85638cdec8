"""Scorers by name: `oel_core.plugins.builtin` lists those that ship with the project."""

from collections.abc import Mapping
from typing import Any

from oel_core.cases.scorers.base import Scorer
from oel_core.plugins.builtin import SCORERS

__all__ = ["Scorer", "make_scorer"]


def make_scorer(name: str, options: Mapping[str, Any]) -> Scorer:
    """The scorer of that name, or at that `module:attribute`.

    Raises:
        ConfigError: there is no such scorer, or an option is invalid.
    """
    made: Scorer = SCORERS.load(name)(options)
    return made
