"""Bounds that a distillation must stay within, and what is done when it leaves them."""

from typing import Literal

from pydantic import Field

from oel_core.config.section import Count, Section, Share

PATH = "distill.stability"


class StabilityConfig(Section):
    """What counts as a collapse. "First" is the round's first step, which is measured before anything is learnt.

    Bounds change nothing that a step computes. They decide whether it is gone on with.
    """

    policy: Literal["stop", "backtrack", "off"] = "stop"
    """`stop`: an error that names the signal; `backtrack`: back to the last good checkpoint at half the rate."""
    patience: Count = 2
    """Steps in a row that one signal must be out of its bounds."""
    backtracks: Count = 2
    """Most times that `backtrack` goes back in a round; after these it stops."""
    entropy_rise: float = Field(default=3.0, ge=1)
    """The student's entropy may be so many times the first."""
    entropy_share: Share = 0.35
    """Of the log of the vocabulary's size, the most that entropy can be: below it a rise means nothing."""
    negative_kl: float = Field(default=0.01, ge=0)
    """Nats per response token that the divergence may lie below zero; no divergence is negative but by a lost mass."""
    mass_share: Share = 0.5
    """Of the first, the least probability that student and teacher must keep on the student's top-k tokens."""
    length_factor: float = Field(default=8.0, gt=1)
    """Responses may become so many times longer or shorter than the first."""
    truncation_rise: Share = 0.5
    """Share of responses that may hit the token cap beyond the first's share."""
    repetition_rise: Share = 0.4
    """Share of repeated four-grams within responses that there may be beyond the first's share."""
