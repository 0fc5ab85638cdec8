"""Online Experiential Learning as a library: rollouts, knowledge, context distillation, evaluation.

    import oel_core as oel

    episodes = oel.play("quickstart", episodes=8)
    knowledge = oel.extract("quickstart", episodes)
    more = oel.play("quickstart", episodes=140, split=oel.Split.DISTILL)
    checkpoint = oel.distill("quickstart", more, [knowledge], "out")
    print(oel.evaluate("quickstart").pass_rate, oel.evaluate("quickstart", policy=checkpoint).pass_rate)

Paper: Ye et al., "Online Experiential Learning for Language Models", arXiv 2603.16856. Nothing in here imports
Prefect or MLflow; `tasks` and `flows` build on it, never the other way round.

Importing this package makes the threads of OpenMP sleep while they wait, before torch loads it: beside other work,
threads that spin keep the cores from those they wait for.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oel_core.config.run import OelConfig, load_config
    from oel_core.errors import OelError
    from oel_core.facade import configure, distill, evaluate, extract, play, run_round
    from oel_core.types import EvalReport, ExperienceItem, Knowledge, Split, Trajectory

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"

__all__ = [
    "EvalReport",
    "ExperienceItem",
    "Knowledge",
    "OelConfig",
    "OelError",
    "Split",
    "Trajectory",
    "configure",
    "distill",
    "evaluate",
    "extract",
    "load_config",
    "play",
    "run_round",
]

_HOMES = {
    "oel_core.config.run": ("OelConfig", "load_config"),
    "oel_core.errors": ("OelError",),
    "oel_core.facade": ("configure", "distill", "evaluate", "extract", "play", "run_round"),
    "oel_core.types": ("EvalReport", "ExperienceItem", "Knowledge", "Split", "Trajectory"),
}
"""Module → what it lends to this one, imported on first use: `import oel_core` alone is quick."""


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'oel_core' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
