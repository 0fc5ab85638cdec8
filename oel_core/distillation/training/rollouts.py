"""Rollouts: generates the responses to a step's prompts with the model itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from oel_core.config.sampling import Sampling
from oel_core.distillation.data.dataset import Sample
from oel_core.policies.hf.decoding import sample_responses
from oel_core.policies.hf.prefix_cache import CachedSequence, PrefillCache, default_capacity

ReadPrefixes = Callable[[], Sequence[CachedSequence]]
"""Prefills prefixes of prompts at a sampler's request."""


@dataclass(frozen=True)
class Tokens:
    """Special token ids."""

    pad: int
    stops: frozenset[int]
    """Stop tokens."""


@dataclass(frozen=True)
class Rollout:
    """A sample with its response."""

    sample: Sample
    response: list[int]
    """Token ids, including the stop token where one was sampled."""
    truncated: bool
    """The response reached `max_response_tokens` without a stop token."""
    masked: int = 0
    """Number of leading response tokens without a loss."""

    @classmethod
    def of(cls, sample: Sample, response: list[int], tokens: Tokens) -> Self:
        """A rollout; truncated unless the response ends with a stop token."""
        return cls(sample, response, truncated=not response or response[-1] not in tokens.stops)

    @property
    def length(self) -> int:
        """Tokens of the student's prompt and the response."""
        return len(self.sample.prompt) + len(self.response)

    @property
    def trained(self) -> int:
        """Number of response tokens with a loss."""
        return max(0, len(self.response) - self.masked)

    @property
    def teacher_length(self) -> int:
        """Tokens of the teacher's prompt and the response."""
        return len(self.sample.teacher_prompt) + len(self.response)


def roll_out(
    model: Any,
    samples: Sequence[Sample],
    sampling: Sampling,
    tokens: Tokens,
    *,
    batch_size: int,
    capacity: int,
    given: Sequence[CachedSequence] = (),
) -> list[Rollout]:
    """One response for each sample, in their order; prompts are batched by length.

    Shorter prompts come first; longer ones that extend them start from their KV cache.

    Args:
        capacity: size of the KV cache kept between batches, tokens.
        given: prefilled prefixes of prompts.

    Raises:
        PolicyError: the model's logits are not finite.
    """
    ordered = sorted(samples, key=lambda sample: len(sample.prompt))
    found: dict[int, list[int]] = {}
    kept = capacity if len(samples) > batch_size else 0
    held = PrefillCache.of(kept, given)  # of this call: the next has other weights
    for start in range(0, len(ordered), batch_size):
        chunk = ordered[start : start + batch_size]
        prompts, seeds = [sample.prompt for sample in chunk], [sample.seed for sample in chunk]
        responses = sample_responses(model, prompts, seeds, sampling, tokens.stops, tokens.pad, held)
        found.update(zip((sample.index for sample in chunk), responses, strict=True))
    return [Rollout.of(sample, found[sample.index], tokens) for sample in samples]


@dataclass(frozen=True)
class Sampler:
    """Generates responses with given sampling settings."""

    sampling: Sampling
    tokens: Tokens
    batch_size: int
    """Prompts per batch."""
    prefix_cache_tokens: int | None = field(default=None, kw_only=True)
    """As `model.prefix_cache_tokens`."""

    def roll_out(self, model: Any, samples: Sequence[Sample], prefilled: ReadPrefixes = tuple) -> list[Rollout]:
        """As the function `roll_out`.

        Args:
            prefilled: computes prefixes of the prompts; not called by a sampler with prefix caching of its own.
        """
        capacity = default_capacity(model) if self.prefix_cache_tokens is None else self.prefix_cache_tokens
        return roll_out(
            model, samples, self.sampling, self.tokens, batch_size=self.batch_size, capacity=capacity, given=prefilled()
        )

    def close(self) -> None:
        """Nothing to release: the model belongs to the caller."""
