"""Sampling settings, shared by the configuration and the policies."""

from pydantic import Field

from oel_core.config.section import Count, CountOrZero, Section, Share


class Sampling(Section):
    """How responses are sampled."""

    temperature: float = Field(default=0.7, ge=0)
    """0 is greedy."""
    top_p: Share = 1.0
    top_k: CountOrZero = 0
    """0 disables it."""
    max_tokens: Count = 1024
    """Maximum tokens of one response, including the end token."""
