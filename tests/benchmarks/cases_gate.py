"""A/A: how often the gate promotes a model over itself, measured on cases: `python -m tests.benchmarks.cases_gate`.

Each promotion is played through the suite `cases`, its scorer and the gate's own functions. Both sides are one scripted
model that gets a case right with the case's own probability, and draws its answers anew on either side, which is the
hard case: real models that are equal mostly answer alike.
"""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from oel_core.cases.frozen import write_cases
from oel_core.cases.suite import make_cases
from oel_core.config.operation import GateConfig
from oel_core.config.run import OelConfig, parse_config
from oel_core.evaluation.stats import wilson
from oel_core.gate.conditions import held_out_conditions
from oel_core.gate.ledger import level
from oel_core.gate.promotion import ModelResults, SuiteResults, bootstrap_verdict
from oel_core.gate.sequential import progress
from oel_core.policies.scripted import ScriptedPolicy
from oel_core.seeds import derive_seed
from oel_core.types import Message, Trajectory
from tests.benchmarks import report
from tests.cases.sessions import case

CASES, PROMOTIONS = 128, 200
GATE = GateConfig()
ONE = 2**63
Rates = Callable[[np.random.Generator], np.ndarray]
"""Draws the probability that the model gets each case right, shape (CASES,)."""
WORLDS: dict[str, Rates] = {
    "every case 50%": lambda rng: np.full(CASES, 0.5),
    "every case 10%": lambda rng: np.full(CASES, 0.1),
    "every case 90%": lambda rng: np.full(CASES, 0.9),
    "most cases sure, Beta(0.3, 0.3)": lambda rng: rng.beta(0.3, 0.3, CASES),
    "as above, a judge that errs in 20%": lambda rng: 0.8 * (found := rng.beta(0.3, 0.3, CASES)) + 0.2 * (1 - found),
}


def model(rates: np.ndarray) -> ScriptedPolicy:
    """Answers case n rightly with the probability `rates[n]`."""

    def respond(messages: tuple[Message, ...], seed: int) -> str:
        number = int(messages[-1].content.rpartition(" ")[2])
        return "right" if derive_seed("answer", seed) < rates[number] * ONE else "wrong"

    return ScriptedPolicy(respond, name="model", batch_size=CASES)


def measured(file: Path, rates: np.ndarray, seed: int) -> ModelResults:
    """The model on the cases, its answers drawn by `seed`."""
    config: OelConfig = parse_config({"seed": seed, "evaluate": {"cases": {"scorer": "exact"}}}, "benchmark")
    episodes: list[Trajectory] = []
    found = make_cases({"file": str(file)}, config).run(model(rates), on_episode=episodes.append)
    return ModelResults(seed, SuiteResults(found, episodes), {})


def promotes(champion: ModelResults, candidate: ModelResults) -> tuple[bool, bool]:
    """Whether the tests `bootstrap` and `sequential` (a project's first trial) promote the candidate."""
    by_bootstrap = bootstrap_verdict(GATE, candidate, champion, champion, seed=candidate.round).promote
    conditions = held_out_conditions(GATE, level(1, (), GATE.sequential.error_budget), 1024)
    pairs = list(zip(champion.held_out.episodes, candidate.held_out.episodes, strict=True))
    return by_bootstrap, all(progress(condition, [pairs], 0).shown for condition in conditions)


def false_promotions(file: Path, rates: Rates, promotions: int = PROMOTIONS) -> tuple[int, int]:
    """How many of so many A/A comparisons each test promotes."""
    rng, found = np.random.default_rng(0), np.zeros(2, dtype=int)
    for trial in range(promotions):
        drawn = rates(rng)
        found += promotes(measured(file, drawn, 2 * trial), measured(file, drawn, 2 * trial + 1))
    return int(found[0]), int(found[1])


def share(found: int) -> str:
    low, high = wilson(found, PROMOTIONS)
    return f"{found} of {PROMOTIONS}, {found / PROMOTIONS:.1%} ({low:.1%} to {high:.1%})"


def main() -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "cases.jsonl"
        write_cases(file, [case(number, "right") for number in range(CASES)])
        rows = [[name, *map(share, false_promotions(file, rates))] for name, rates in WORLDS.items()]
    print(report.table(["cases", "bootstrap, at most 5%", "sequential, first trial"], rows))


if __name__ == "__main__":
    main()
