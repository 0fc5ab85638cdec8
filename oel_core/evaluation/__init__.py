"""The registry of evaluation suites. A new one is one module here and one line in `SUITES`.

Beside the registered names, `cross_game_<label>` is one more cross-game suite, and any generative task of
lm-evaluation-harness is a suite under its own name.
"""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import partial
from typing import Any, Final

from oel_core.config.run import OelConfig
from oel_core.errors import ConfigError
from oel_core.evaluation.base import Suite
from oel_core.evaluation.cross_game import CROSS_GAME, make_cross_game
from oel_core.evaluation.games import make_games
from oel_core.evaluation.harness import lm_eval as lm_harness
from oel_core.evaluation.harness.task import make_lm_task
from oel_core.evaluation.ifeval import make_ifeval
from oel_core.evaluation.lake import make_other_symbols, make_swapped_roles
from oel_core.evaluation.questions import model_settings
from oel_core.evaluation.relics import make_other_relics

__all__ = ["SUITES", "Suite", "check_suites", "make_suite", "model_settings", "suite_names"]

SUITES: Final[dict[str, Callable[[Mapping[str, Any], OelConfig], Suite]]] = {
    "games": make_games,
    "other_symbols": make_other_symbols,
    "swapped_roles": make_swapped_roles,
    "other_relics": make_other_relics,
    "ifeval": make_ifeval,
    CROSS_GAME: partial(make_cross_game, CROSS_GAME),
}
"""Name → factory(options, the run's configuration)."""


def suite_names() -> list[str]:
    """Registered names, in the order of the registry."""
    return list(SUITES)


def make_suite(name: str, options: Mapping[str, Any], config: OelConfig) -> Suite:
    """The suite of that name.

    Raises:
        ConfigError: the name is neither registered (the message lists the nearest) nor a task of lm-eval, or an option
            is wrong.
    """
    if name in SUITES:
        return SUITES[name](options, config)
    if name.startswith(f"{CROSS_GAME}_"):
        return make_cross_game(name, options, config)
    if lm_harness.installed() and lm_harness.known_task(name, options.get("folder")):
        return make_lm_task(name, options, config)
    near = get_close_matches(name, SUITES, n=3, cutoff=0.4)
    hint = f"did you mean {', '.join(near)}? " if near else ""
    tasks = "" if lm_harness.installed() else "; pip install 'oel[lm-eval]' adds the tasks of lm-evaluation-harness"
    raise ConfigError(f"unknown evaluation suite '{name}': {hint}registered are {', '.join(SUITES)}{tasks}")


def check_suites(config: OelConfig) -> None:
    """Makes every out-of-distribution suite of a run once.

    Raises:
        ConfigError: one cannot be made, or two would report under the same name.
    """
    names: dict[str, str] = {}
    for key, options in config.evaluate.ood.items():
        name = make_suite(key, options, config).name
        if name in names:
            raise ConfigError(f"evaluate.ood.{names[name]} and evaluate.ood.{key} both report as {name}: rename one")
        names[name] = key
