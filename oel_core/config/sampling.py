"""How a response is sampled: the same settings in the configuration and in a call of a policy."""

from pydantic import Field

from oel_core.config.section import Count, CountOrZero, Section, Share


class Sampling(Section):
    """How responses are sampled."""

    temperature: float = Field(default=0.7, ge=0)
    """0 is greedy."""
    top_p: Share = 1.0
    top_k: CountOrZero = 0
    """0 keeps the whole vocabulary."""
    max_tokens: Count = 1024
    """Most tokens of one response, the end token counted."""
