"""How often the promotion gate's two tests promote: `python -m tests.benchmarks.gate_simulation` prints the tables.

Every project has 500 rounds. Outcomes of two models on an episode are drawn independently, which is the hard case: on
shared boards they go together. `bootstrap` compares the candidate with the champion's results on one fixed set of
episodes; `sequential` has both play new pairs, and costs two episodes a pair. The decisions are the gate's own
functions; only the condition "better" is simulated in the first two tables, and one suite in the third.
"""

import sys
from collections.abc import Callable
from functools import cache

import numpy as np

from oel_core.config.operation import GateConfig
from oel_core.gate.evidence import Values, log_evidence, required
from oel_core.gate.ledger import level
from oel_core.gate.promotion import compare
from oel_core.gate.sequential import FIRST_FUTILITY_CHECK, plausible_evidence

PROJECTS, ROUNDS, TRIES = 400, 500, 1000
GATE = GateConfig()
SETTINGS = GATE.sequential
RATE = 0.5
CHANGES = ((0.20, 0.30), (0.50, 0.55), (0.50, 0.60), (0.50, 0.70), (0.80, 0.90))
PLACES: dict[str, tuple[int, tuple[int, ...]]] = {
    "trial 1": (1, ()),
    "trial 10, the 9th promoted": (10, (9,)),
    "trial 60, 5 promoted, the 55th last": (60, (5, 15, 25, 40, 55)),
    "trial 60, none promoted": (60, ()),
}
"""Number of a trial, and of those before it that promoted."""

Decide = Callable[[np.random.Generator, float, float, float], tuple[bool, int]]
"""(generator, the champion's rate, the candidate's rate, level) → promoted, pairs."""


@cache
def share_of_draws(won: int, lost: int, episodes: int) -> float:
    """The bootstrap's probability, from counts."""
    before = [False] * won + [True] * (episodes - won)
    after = [True] * won + [False] * lost + [True] * (episodes - won - lost)
    return compare(before, after, margin=GATE.margin, seed=0).probability


def values(won: int, lost: int, pairs: int, shift: float = 0.0) -> Values:
    """Differences of as many pairs, plus the tolerance."""
    return np.repeat([1.0, -1.0, 0.0], [won, lost, pairs - won - lost]) + shift


@cache
def evidence(won: int, lost: int, pairs: int, shift: float) -> float:
    return log_evidence(values(won, lost, pairs, shift), shift - 1)


@cache
def plausible(won: int, lost: int, pairs: int, shift: float) -> float:
    return plausible_evidence(values(won, lost, pairs, shift), shift - 1, SETTINGS.most_episodes - pairs)


def sequential(
    rng: np.random.Generator, before: float, after: float, at_level: float, shift: float = 0.0
) -> tuple[bool, int]:
    """One trial: whether the condition was shown, and the pairs it took."""
    needed, size = required(at_level), SETTINGS.block_episodes
    shares = [after * (1 - before), before * (1 - after), after * before + (1 - after) * (1 - before)]
    won = lost = pairs = 0
    while pairs < SETTINGS.most_episodes:
        more_won, more_lost, _ = rng.multinomial(size, shares)
        won, lost, pairs = won + int(more_won), lost + int(more_lost), pairs + size
        if evidence(won, lost, pairs, shift) >= needed:
            return True, pairs
        if pairs >= FIRST_FUTILITY_CHECK * size and plausible(won, lost, pairs, shift) < needed:
            break
    return False, pairs


def project_by_trials(rng: np.random.Generator, worse: float) -> tuple[int, int]:
    """False promotions and episodes of a project whose every candidate is worse by `worse` than its champion."""
    rate, episodes = RATE, 0
    promoted: list[int] = []
    for number in range(1, ROUNDS + 1):
        now = level(number, promoted, SETTINGS.error_budget)
        shown, pairs = sequential(rng, rate, max(0.0, rate - worse), now)
        promoted += [number] * shown
        episodes += 2 * pairs
        rate -= worse * shown
    return len(promoted), episodes


def project_by_bootstrap(rng: np.random.Generator, worse: float, size: int) -> tuple[int, int]:
    """The same by the bootstrap on `size` episodes; the champion's results stay as they were measured."""
    rate, promotions = RATE, 0
    passed = int(rng.binomial(size, rate))
    for _ in range(ROUNDS):
        won = int(rng.binomial(size - passed, max(0.0, rate - worse)))
        lost = passed - int(rng.binomial(passed, max(0.0, rate - worse)))
        if share_of_draws(won, lost, size) >= GATE.confidence:
            promotions, passed, rate = promotions + 1, passed + won - lost, rate - worse
    return promotions, ROUNDS * size


def row(*cells: object) -> None:
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def head(*cells: str) -> None:
    row(*cells)
    print("|" + "---|" * len(cells))


def false_promotions() -> None:
    print(f"\nOver {ROUNDS} rounds, {PROJECTS} projects\n")
    head("candidates", "test", "projects with a false promotion", "false promotions a project", "episodes a round")
    for label, worse in (("unchanged", 0.0), ("0.5 points worse", 0.005)):
        for name, run in (
            ("bootstrap, 128 episodes", lambda rng, worse=worse: project_by_bootstrap(rng, worse, 128)),
            ("bootstrap, 512 episodes", lambda rng, worse=worse: project_by_bootstrap(rng, worse, 512)),
            ("sequential", lambda rng, worse=worse: project_by_trials(rng, worse)),
        ):
            found = np.array([run(np.random.default_rng([7, one])) for one in range(PROJECTS)])
            any_false, mean, episodes = np.mean(found[:, 0] > 0), np.mean(found[:, 0]), np.mean(found[:, 1]) / ROUNDS
            row(label, name, f"{any_false:.1%}", f"{mean:.2f}", f"{episodes:.0f}")


def tried(before: float, after: float, at_level: float, shift: float = 0.0) -> tuple[float, float]:
    """Share of trials in which the condition is shown, and the mean number of pairs."""
    rng = np.random.default_rng(3)
    found = np.array([sequential(rng, before, after, at_level, shift) for _ in range(TRIES)], dtype=float)
    return float(found[:, 0].mean()), float(found[:, 1].mean())


def bootstrapped(before: float, after: float, size: int, confidence: float) -> float:
    """Share of bootstraps on new pairs that promote."""
    rng, found = np.random.default_rng(3), 0
    for _ in range(TRIES):
        first, second = rng.random(size) < before, rng.random(size) < after
        found += share_of_draws(int((second & ~first).sum()), int((first & ~second).sum()), size) >= confidence
    return found / TRIES


def power() -> None:
    print(f"\nPower and cost, {TRIES} tries each\n")
    head("pass rate before and after", "bootstrap, 128", "as many as trial 1", "and its level, new pairs", *PLACES)
    for before, after in CHANGES:
        levels = [level(*place, SETTINGS.error_budget) for place in PLACES.values()]
        found = [tried(before, after, one) for one in levels]
        pairs = round(found[0][1])
        row(
            f"{before:.0%} → {after:.0%}",
            f"{bootstrapped(before, after, 128, GATE.confidence):.0%}",
            f"{bootstrapped(before, after, 2 * pairs, GATE.confidence):.0%}",
            f"{bootstrapped(before, after, pairs, 1 - levels[0]):.0%}",
            *(f"{share:.0%} ({2 * mean:.0f})" for share, mean in found),
        )


def not_worse() -> None:
    print(f"\nA suite with a pass rate of 80%, promoted; {TRIES} tries each\n")
    head("tolerance", "change", "128 episodes, difference as measured", "sequential", "pairs")
    for tolerance in (0.05, 0.1, 0.15):
        for change in (0.0, -tolerance, -2 * tolerance):
            rng = np.random.default_rng(4)
            measured = (rng.binomial(128, 0.8 + change, TRIES) - rng.binomial(128, 0.8, TRIES)) / 128
            share, pairs = tried(0.8, 0.8 + change, SETTINGS.level, tolerance)
            row(
                f"{tolerance:g}",
                f"{100 * change:.0f}",
                f"{np.mean(measured >= -tolerance):.0%}",
                f"{share:.0%}",
                f"{pairs:.0f}",
            )


TABLES = {"false": false_promotions, "power": power, "suites": not_worse}

if __name__ == "__main__":
    for name in sys.argv[1:] or TABLES:
        TABLES[name]()
