"""What a sequential trial asks of a candidate: each condition says that the mean of one number a pair is above zero.

A pair is one episode played by both models. The number has bounds that are known before anything is played, which is
all that the test by betting (`oel_core.gate.evidence`) needs. A condition has to be shown: without episodes none holds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from oel_core.config.operation import GateConfig
from oel_core.gate.evidence import Values, required
from oel_core.types import StopReason, Trajectory

Pair = tuple[Trajectory, Trajectory]
"""The same episode: played by the model that is compared with, then by the candidate."""


@dataclass(frozen=True)
class Condition:
    """One condition of a trial."""

    name: str
    claim: str
    """What is to be shown, as the end of a sentence."""
    level: float
    """Probability at most that it is shown although it does not hold."""
    least: float
    """What no value can be below; less than 0."""
    value: Callable[[Pair], float]

    @property
    def required(self) -> float:
        """Natural logarithm of the evidence that shows it."""
        return required(self.level)

    def values(self, pairs: Sequence[Pair]) -> Values:
        """One value a pair. A pair in which the other model failed technically says nothing about the candidate."""
        return np.array([self.value(pair) for pair in pairs if pair[0].error is None], dtype=np.float64)


def held_out_conditions(gate: GateConfig, level: float, max_tokens: int) -> list[Condition]:
    """The conditions on held-out episodes: better, neither too long nor too short, not more often truncated.

    Args:
        level: of the first one, from the project's error budget.
        max_tokens: most tokens of a response, by which lengths are bounded.
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
    return [condition for condition in found if condition.least < 0]  # the others hold whatever is played


def not_worse(gate: GateConfig, suite: str, beside: str) -> list[Condition]:
    """The condition on one out-of-distribution suite, against the model that `beside` names; none if all is tolerated.

    The name of the condition is the suite's, with `/base` for the base model.
    """
    tolerance = gate.tolerance(suite)
    claim = f"the pass rate is less than {tolerance:g} below {beside}'s"
    name = f"ood/{suite}" + ("/base" if beside == "the base model" else "")
    found = _above(name, claim, gate.sequential.level, tolerance, _passed)
    return [found] if found.least < 0 else []


def _above(name: str, claim: str, level: float, shift: float, measure: Callable[[Trajectory], float]) -> Condition:
    """The candidate's measure, which is in an interval of length 1, plus `shift` is above the other model's."""
    return Condition(name, claim, level, shift - 1, lambda pair: measure(pair[1]) - measure(pair[0]) + shift)


def _passed(episode: Trajectory) -> float:
    return float(episode.passed and episode.error is None)


def _tokens(episode: Trajectory, most: int) -> float:
    """Mean tokens of a response. Ids that a local tokenizer read from a server's text may be more than were sampled."""
    counts = [min(len(turn.response_ids), most) for turn in episode.turns]
    return float(np.mean(counts)) if counts else 0.0


def _truncated(episode: Trajectory) -> float:
    """Share of responses that hit the token cap."""
    cut = [turn.stop_reason is StopReason.LENGTH for turn in episode.turns]
    return float(np.mean(cut)) if cut else 0.0
