"""Whether a distillation is still sound, judged from its step records alone, so that a resumed one judges the same.

Why it is needed: the unnormalised sum over the student's top-k, sum of p (log p - log q), is not a divergence once mass
leaves the top-k. With P and Q the mass that student and teacher have there it is at least P log(P / Q), which is
negative for P < Q, least at P = Q / e, and tends to 0 for P to 0. A large rate carries the student past the teacher
down that slope: its mass goes to the rest of the vocabulary, where nothing is counted, and entropy rises to the log of
the vocabulary's size. Nothing in the loss says so, because it stays near zero.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from oel_core.config.run import DistillConfig
from oel_core.distillation.training.step_records import StepRecord
from oel_core.plugins.builtin import OBJECTIVES

Limit = Callable[[float], float]
"""The value of the first step to the most or the least that a later one may have."""


@dataclass(frozen=True)
class Signal:
    """One field of the step records and the range it must stay in."""

    field: str
    """Of `StepRecord`."""
    name: str
    unit: str
    least: Limit = lambda first: -math.inf
    most: Limit = lambda first: math.inf

    def value(self, record: StepRecord) -> float:
        """NaN where the record lacks it, which is in no bounds' way."""
        found = getattr(record, self.field)
        return math.nan if found is None else float(found)

    def outside(self, record: StepRecord, first: StepRecord) -> bool:
        """Whether the record is out of the bounds that the first step sets."""
        value, start = self.value(record), self.value(first)
        return value < self.least(start) or value > self.most(start)


@dataclass(frozen=True)
class Breach:
    """A signal that is out of its bounds, and since when."""

    signal: Signal
    records: tuple[StepRecord, ...]
    """The steps in a row that it has been out for, up to the newest."""
    first: StepRecord
    """Of the round."""

    @property
    def since(self) -> int:
        """The first of those steps."""
        return self.records[0].step

    def __str__(self) -> str:
        start = self.signal.value(self.first)
        least, most = self.signal.least(start), self.signal.most(start)
        allowed = [f"at least {least:.4g}"] if math.isfinite(least) else []
        allowed += [f"at most {most:.4g}"] if math.isfinite(most) else []
        values = ", ".join(f"{self.signal.value(record):.4g} at step {record.step}" for record in self.records)
        return (
            f"{self.signal.name} ({self.signal.field}) is out of its bounds: {values}; step 1 had {start:.4g}, and "
            f"{' and '.join(allowed)} {self.signal.unit} are allowed"
        )


def signals(config: DistillConfig, vocabulary: int) -> list[Signal]:
    """What is watched under these settings.

    Args:
        config: objective and regime decide which signals there are.
        vocabulary: V; log V is the most that entropy can be.
    """
    bounds, flat = config.stability, config.stability.entropy_share * math.log(vocabulary)
    found = [
        Signal(
            "entropy",
            "the student's entropy",
            "nats per response token",
            most=lambda first: max(bounds.entropy_rise * first, flat),
        )
    ]
    if config.regime != "sft":
        found += _of_objective(config)
    if config.regime == "on_policy":
        found += _of_responses(config)
    return found


def _of_objective(config: DistillConfig) -> list[Signal]:
    """Those of the comparison with the teacher. A single sampled token's log ratio has either sign by chance."""
    bounds, found = config.stability, []
    if config.objective != "sampled_token":
        found.append(Signal("kl", "the divergence", "nats per response token", least=lambda first: -bounds.negative_kl))
    if OBJECTIVES.load(config.objective).support == "top_k":
        for field, name in (("student_mass", "the student's"), ("teacher_mass", "the teacher's")):
            title = f"{name} mass on the student's top {config.top_k} tokens"
            found.append(Signal(field, title, "of 1", least=lambda first: bounds.mass_share * first))
    return found


def _of_responses(config: DistillConfig) -> list[Signal]:
    """Those of the student's own responses; a teacher's or collected ones say nothing about the student."""
    bounds = config.stability
    return [
        Signal(
            "response_length",
            "the mean length of a response",
            "tokens",
            least=lambda first: first / bounds.length_factor,
            most=lambda first: first * bounds.length_factor,
        ),
        Signal(
            "truncation_rate",
            "the share of responses that hit the token cap",
            "of 1",
            most=lambda first: first + bounds.truncation_rise,
        ),
        Signal(
            "repetition_rate",
            "the share of repeated four-grams",
            "of 1",
            most=lambda first: first + bounds.repetition_rise,
        ),
    ]


def find_breaches(watched: Sequence[Signal], history: Sequence[StepRecord]) -> list[Breach]:
    """The signals that the newest step has out of bounds, each with the steps in a row that it has been so for.

    Args:
        watched: from `signals`.
        history: all records of the round so far, from step 1 on.
    """
    found = []
    for signal in watched:
        streak: list[StepRecord] = []
        for record in reversed(history):
            if not signal.outside(record, history[0]):
                break
            streak.insert(0, record)
        if streak:
            found.append(Breach(signal, tuple(streak), history[0]))
    return found


def advice(config: DistillConfig) -> str:
    """What may keep these settings from leaving their bounds again, as a sentence."""
    steps = []
    if config.objective == "reverse_kl_top_k" and config.regime != "sft":
        steps.append(
            "set distill.objective=reverse_kl_tail, which counts the mass outside the top-k that "
            f"reverse_kl_top_k (top_k {config.top_k}, temperature {config.temperature:g}) leaves out"
        )
    steps.append(f"lower distill.learning_rate (now {config.learning_rate:g})")
    if config.stability.policy == "stop":
        steps.append(
            "set distill.stability.policy=backtrack and give the same command again: it goes on from the last good "
            "checkpoint at half the rate"
        )
    return f"To change this, {', or '.join(steps)}"
