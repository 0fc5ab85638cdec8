"""Bounds of step metrics during distillation, and the reaction to leaving them."""

from typing import Literal

from pydantic import Field

from oel_core.config.section import Count, Section, Share

PATH = "distill.stability"


class StabilityConfig(Section):
    """Criteria of a collapse. "First" is the round's first step, which is measured before any update.

    The bounds do not change a step's computation, only whether training continues.
    """

    policy: Literal["stop", "backtrack", "off"] = "stop"
    """`stop`: an error that names the metric; `backtrack`: resume from the last good checkpoint at half the learning
    rate."""
    patience: Count = 2
    """Consecutive steps that one metric must be out of bounds."""
    backtracks: Count = 2
    """Maximum number of rollbacks per round; then it stops."""
    entropy_rise: float = Field(default=3.0, ge=1)
    """Upper bound of the student's entropy, as a multiple of the first."""
    entropy_share: Share = 0.35
    """Share of log V (the maximum entropy) below which a rise is ignored."""
    negative_kl: float = Field(default=0.01, ge=0)
    """Lower bound of the divergence, nats per response token below zero; it is negative only if mass is lost."""
    mass_share: Share = 0.5
    """Lower bound of the probability mass of student and teacher on the student's top-k tokens, as a share of the
    first."""
    length_factor: float = Field(default=8.0, gt=1)
    """Bounds of the response length, as a factor of the first in either direction."""
    truncation_rise: Share = 0.5
    """Maximum increase of the share of truncated responses."""
    repetition_rise: Share = 0.4
    """Maximum increase of the share of repeated four-grams within responses."""
