"""The policy protocol: token ids in, token ids and a stop reason out."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from oel_core.config.sampling import Sampling
from oel_core.types import IdSource, Message, StopReason


@dataclass(frozen=True)
class Request:
    """One prompt. Sampling depends on `seed` alone, not on the rest of the batch."""

    messages: tuple[Message, ...]
    seed: int
    shape: str | None = None
    """Regular expression that the whole response must match, as far as it gets within the token cap; None: any text.
    Without look-around and back-references."""


@dataclass(frozen=True)
class Completion:
    """One response, with the exact token ids of prompt and response."""

    text: str
    """Decoded response, without special tokens."""
    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    """Includes the end token if one was sampled."""
    stop_reason: StopReason
    id_source: IdSource = IdSource.SAMPLED
    """Whether the ids are the model's own or a local tokenizer's."""
    answer: str | None = None
    """The text after the thinking: empty if the thinking never ended, None if it cannot be told from the token ids."""


class Policy(Protocol):
    """A model that completes chat prompts."""

    name: str
    """Name of the policy in records."""
    reproducible: bool
    """Whether repeating the same batch of requests gives identical responses."""
    batch_size: int
    """Preferred number of requests per batch, or in flight at once."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Completions in the order of the requests. Raises PolicyError on failure."""
        ...

    def count_tokens(self, text: str) -> int:
        """Number of tokens of a text, without chat markup."""
        ...

    def close(self) -> None:
        """Frees the model."""
        ...


class Generates(Protocol):
    """Anything that completes requests: a policy, or a session of one."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """As `Policy.generate`."""
        ...


@runtime_checkable
class SessionPolicy(Policy, Protocol):
    """A policy that can keep the KV cache of prompts for later prompts that extend them."""

    def session(self) -> Generates:
        """A session for the turns of episodes that are played together; its KV cache is freed with the session object.

        Its completions depend on the calls of this session only: the same sequence of calls gives the same bytes.
        """
        ...


Watch = Callable[[list[int], list[int]], list[bool]]
"""Called after every step with indices of requests and the token sampled for each; returns which of them end here."""


@runtime_checkable
class WatchedPolicy(Policy, Protocol):
    """A policy that shows responses while they are written."""

    def generate_watched(self, requests: Sequence[Request], sampling: Sampling, watch: Watch) -> list[Completion]:
        """As `generate`; a response that `watch` ends has no end token, and counts as cut off."""
        ...


@runtime_checkable
class StreamingPolicy(Policy, Protocol):
    """A policy that completes requests independently of each other."""

    def submit(self, request: Request, sampling: Sampling) -> Future[Completion]:
        """Submits a request and returns at once; cancelling the future cancels the request.

        The future raises PromptTooLongError (index 0) if this request does not fit, PolicyError if the policy cannot
        generate at all, ConfigError if no retry could help.
        """
        ...
