"""Evaluation suites by name; `oel_core.plugins.builtin` lists the built-in ones.

In addition, `cross_game_<label>` is a further cross-game suite, any generative task of lm-evaluation-harness is a suite
under its own name, and `<label>: {suite: module:attribute}` is a suite from any module.
"""

from collections.abc import Mapping
from typing import Any

from oel_core.config.run import OelConfig
from oel_core.errors import ConfigError
from oel_core.evaluation.base import Suite
from oel_core.evaluation.cross_game import CROSS_GAME, make_cross_game
from oel_core.evaluation.harness import lm_eval as lm_harness
from oel_core.evaluation.harness.task import make_lm_task
from oel_core.evaluation.questions import model_settings
from oel_core.plugins.builtin import SUITES
from oel_core.text.nearest import nearest

__all__ = ["Suite", "check_suites", "make_suite", "model_settings", "suite_names"]

FACTORY = "suite"
"""The option that names the suite of a user-defined label."""


def suite_names() -> list[str]:
    """Built-in names, then those of installed packages."""
    return SUITES.names()


def make_suite(name: str, options: Mapping[str, Any], config: OelConfig) -> Suite:
    """The suite of that name.

    Raises:
        ConfigError: the name is neither registered (the message lists the nearest) nor a task of lm-eval, or an option
            is wrong.
    """
    if FACTORY in options:
        own = {key: value for key, value in options.items() if key != FACTORY}
        return _made(str(options[FACTORY]), own, config)
    if name in SUITES.names():
        return _made(name, options, config)
    if name.startswith(f"{CROSS_GAME}_"):
        return make_cross_game(name, options, config)
    if lm_harness.installed() and lm_harness.known_task(name, options.get("folder")):
        return make_lm_task(name, options, config)
    known = ", ".join(suite_names())
    tasks = "" if lm_harness.installed() else "; pip install 'oel[lm-eval]' adds the tasks of lm-evaluation-harness"
    raise ConfigError(f"unknown evaluation suite '{name}': {nearest(name, suite_names())}registered are {known}{tasks}")


def _made(name: str, options: Mapping[str, Any], config: OelConfig) -> Suite:
    made: Suite = SUITES.load(name)(options, config)
    return made


def check_suites(config: OelConfig) -> None:
    """Creates every out-of-distribution suite of a run once.

    Raises:
        ConfigError: a suite cannot be created, or two have the same name in reports.
    """
    names: dict[str, str] = {}
    for key, options in config.evaluate.ood.items():
        name = make_suite(key, options, config).name
        if name in names:
            raise ConfigError(f"evaluate.ood.{names[name]} and evaluate.ood.{key} both report as {name}: rename one")
        names[name] = key
