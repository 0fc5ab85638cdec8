"""A policy that computes responses by a function: for tests and rule-based players."""

from collections.abc import Callable, Sequence

from oel_core.config.sampling import Sampling
from oel_core.policies.base import Completion, Request
from oel_core.types import Message, StopReason

Respond = Callable[[tuple[Message, ...], int], str]

END = 256
"""Id after the 256 bytes."""


class ScriptedPolicy:
    """Responds with `respond(messages, seed)`. One token per UTF-8 byte; longer responses are truncated at
    `max_tokens`."""

    reproducible = True

    def __init__(self, respond: Respond, *, name: str = "scripted", batch_size: int = 8) -> None:
        self.name, self.batch_size, self.closed = name, batch_size, False
        self._respond = respond

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Completions in the order of the requests."""
        return [self._answer(request, sampling.max_tokens) for request in requests]

    def _answer(self, request: Request, max_tokens: int) -> Completion:
        ids = (*self._respond(request.messages, request.seed).encode(), END)[:max_tokens]
        prompt = "".join(f"{message.role}\n{message.content}\n" for message in request.messages)
        return Completion(
            text=bytes(token for token in ids if token != END).decode(errors="replace"),
            prompt_ids=tuple(prompt.encode()),
            response_ids=ids,
            stop_reason=StopReason.EOS if ids[-1] == END else StopReason.LENGTH,
        )

    def count_tokens(self, text: str) -> int:
        """Number of bytes of the text."""
        return len(text.encode())

    def close(self) -> None:
        """No-op."""
        self.closed = True
