"""The policy protocol: token ids in, token ids and a stop reason out."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from oel_core.config.sampling import Sampling
from oel_core.types import IdSource, Message, StopReason


@dataclass(frozen=True)
class Request:
    """One prompt to answer. `seed` alone decides the draw, not the rest of the batch."""

    messages: tuple[Message, ...]
    seed: int


@dataclass(frozen=True)
class Completion:
    """One answer, with the exact ids on both sides."""

    text: str
    """Decoded response, special tokens left out."""
    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    """End token included when one was sampled."""
    stop_reason: StopReason
    id_source: IdSource = IdSource.SAMPLED
    """Whether the ids are the model's own."""
    answer: str | None = None
    """The text after the thinking; empty where that never ended, None where only the text itself can tell."""


class Policy(Protocol):
    """A model that answers chat prompts."""

    name: str
    """What records say wrote a response."""
    reproducible: bool
    """The same batch of requests gives the same bytes again."""
    batch_size: int
    """Requests that are best given, or kept in flight, at once."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Answers in the order of the requests. Raises PolicyError when it cannot."""
        ...

    def count_tokens(self, text: str) -> int:
        """Tokens of a plain text, without chat markup."""
        ...

    def close(self) -> None:
        """Frees the model."""
        ...


class Answering(Protocol):
    """What answers requests."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """As `Policy.generate`."""
        ...


@runtime_checkable
class SessionPolicy(Policy, Protocol):
    """A policy that can keep what it has read for the prompts that continue it."""

    def session(self) -> Answering:
        """Answers the turns of episodes that are played together, and forgets them when it is no longer referred to.

        Its answers depend on the calls of this session only: the same calls from the first on give the same bytes.
        """
        ...


@runtime_checkable
class StreamingPolicy(Policy, Protocol):
    """A policy that answers each request as soon as it can, whatever happens to the others."""

    def submit(self, request: Request, sampling: Sampling) -> Future[Completion]:
        """Starts on a request and returns at once; cancelling the future takes the request back.

        The future raises PromptTooLongError (position 0) when this request does not fit, PolicyError when the policy
        cannot generate at all, ConfigError when no retry could help.
        """
        ...
