"""The registry of evaluation suites. A new one is one module here and one line in `SUITES`."""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, Final

from oel_core.config import OelConfig
from oel_core.errors import ConfigError
from oel_core.evaluation.base import Suite
from oel_core.evaluation.games import make_games
from oel_core.evaluation.lake import make_other_symbols, make_swapped_roles

__all__ = ["SUITES", "Suite", "make_suite", "suite_names"]

SUITES: Final[dict[str, Callable[[Mapping[str, Any], OelConfig], Suite]]] = {
    "games": make_games,
    "other_symbols": make_other_symbols,
    "swapped_roles": make_swapped_roles,
}
"""Name → factory(options, the run's configuration)."""


def suite_names() -> list[str]:
    """Registered names, in the order of the registry."""
    return list(SUITES)


def make_suite(name: str, options: Mapping[str, Any], config: OelConfig) -> Suite:
    """The suite of that name.

    Raises:
        ConfigError: the name is not registered (the message lists the nearest), or an option is wrong.
    """
    if name not in SUITES:
        near = get_close_matches(name, SUITES, n=3, cutoff=0.4)
        hint = f"did you mean {', '.join(near)}? " if near else ""
        raise ConfigError(f"unknown evaluation suite '{name}': {hint}registered are {', '.join(SUITES)}")
    return SUITES[name](options, config)
