"""How often the gate promotes a model that is no better, and one that is: `python -m tests.benchmarks.gate_power`.

Outcomes of the two models are drawn independently, which is the hard case: on shared boards they go together.
"""

import numpy as np

from oel_core.config.operation import GateConfig
from oel_core.gate.promotion import compare

TRIES = 400
RATES = ((0.2, 0.2), (0.2, 0.3), (0.5, 0.5), (0.5, 0.6), (0.5, 0.7))


def promoted(episodes: int, before: float, after: float, gate: GateConfig) -> float:
    """Share of tries in which the second model is promoted."""
    rng = np.random.default_rng(0)
    found = 0
    for seed in range(TRIES):
        first, second = (list(map(bool, rng.random(episodes) < rate)) for rate in (before, after))
        found += compare(first, second, margin=gate.margin, seed=seed).probability >= gate.confidence
    return found / TRIES


if __name__ == "__main__":
    for episodes in (128, 512):
        for before, after in RATES:
            share = promoted(episodes, before, after, GateConfig())
            print(f"{episodes} episodes, {before:.0%} -> {after:.0%}: promoted in {share:.1%} of {TRIES}")
