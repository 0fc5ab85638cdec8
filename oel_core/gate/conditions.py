"""The conditions of a sequential trial: each claims that the mean of a bounded statistic of a pair is above zero.

A pair is one episode played by both models. The statistic's lower bound is known before the trial, as the betting test
(`oel_core.gate.evidence`) requires. A condition holds only once it is shown; without episodes none is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from oel_core.config.operation import GateConfig
from oel_core.gate.evidence import Values, required
from oel_core.types import StopReason, Trajectory

Pair = tuple[Trajectory, Trajectory]
"""The same episode played by the baseline (champion or base model) and by the candidate, in this order."""


@dataclass(frozen=True)
class Condition:
    """One condition of a trial."""

    name: str
    claim: str
    """The claim to be shown, worded as the end of a sentence."""
    level: float
    """Upper bound of the probability that it is shown although it is false."""
    least: float
    """Lower bound of the values; negative."""
    value: Callable[[Pair], float]

    @property
    def required(self) -> float:
        """Natural logarithm of the evidence required to show it."""
        return required(self.level)

    def values(self, pairs: Sequence[Pair]) -> Values:
        """One value per pair. Pairs in which the baseline failed technically are left out."""
        return np.array([self.value(pair) for pair in pairs if pair[0].error is None], dtype=np.float64)


def held_out_conditions(gate: GateConfig, level: float, max_tokens: int) -> list[Condition]:
    """The conditions on held-out episodes: pass rate, response length, share of truncated responses.

    Args:
        level: of the first one, from the project's error budget.
        max_tokens: maximum tokens of a response, the bound of its length.
    """
    low, high = gate.response_ratio
    rise = gate.truncation_rise
    found = [
        _above("better", f"the pass rate is higher by more than {gate.margin:g}", level, -gate.margin, _passed),
        Condition(
            "not_longer",
            f"a response has fewer than {high:g} times as many tokens",
            gate.sequential.level,
            -float(max_tokens),
            lambda pair: high * _tokens(pair[0], max_tokens) - _tokens(pair[1], max_tokens),
        ),
        Condition(
            "not_shorter",
            f"a response has more than {low:g} times as many tokens",
            gate.sequential.level,
            -low * max_tokens,
            lambda pair: _tokens(pair[1], max_tokens) - low * _tokens(pair[0], max_tokens),
        ),
        _above(
            "truncation",
            f"the share of truncated responses rises by less than {rise:g}",
            gate.sequential.level,
            rise,
            lambda episode: -_truncated(episode),
        ),
    ]
    return [condition for condition in found if condition.least < 0]  # the others hold for any episodes


def not_worse(gate: GateConfig, suite: str, beside: str) -> list[Condition]:
    """The condition on one out-of-distribution suite, compared with the model `beside`; none if any loss is allowed.

    The condition has the suite's name, with `/base` for the base model.
    """
    tolerance = gate.tolerance(suite)
    claim = f"the pass rate is less than {tolerance:g} below {beside}'s"
    name = f"ood/{suite}" + ("/base" if beside == "the base model" else "")
    found = _above(name, claim, gate.sequential.level, tolerance, _passed)
    return [found] if found.least < 0 else []


def _above(name: str, claim: str, level: float, shift: float, measure: Callable[[Trajectory], float]) -> Condition:
    """The candidate's `measure`, with values in an interval of length 1, plus `shift` is above the baseline's."""
    return Condition(name, claim, level, shift - 1, lambda pair: measure(pair[1]) - measure(pair[0]) + shift)


def _passed(episode: Trajectory) -> float:
    return float(episode.passed and episode.error is None)


def _tokens(episode: Trajectory, most: int) -> float:
    """Mean tokens of a response, capped: ids re-tokenised from a server's text may exceed the number sampled."""
    counts = [min(len(turn.response_ids), most) for turn in episode.turns]
    return float(np.mean(counts)) if counts else 0.0


def _truncated(episode: Trajectory) -> float:
    """Share of responses that hit the token cap."""
    cut = [turn.stop_reason is StopReason.LENGTH for turn in episode.turns]
    return float(np.mean(cut)) if cut else 0.0
