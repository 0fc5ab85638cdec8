"""Policies with many requests in flight: each request is a coroutine on one event loop, in a background thread."""

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Iterable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from oel_core.config.sampling import Sampling
from oel_core.errors import PolicyError, PromptTooLongError
from oel_core.policies.base import Completion, Request
from oel_core.policies.text.chat import Chat

Result = TypeVar("Result")


class BackgroundLoop:
    """An event loop that runs in a daemon thread until it is closed."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Starts the coroutine. Cancelling the future cancels it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Runs the coroutine and waits for it; cancels it if interrupted."""
        future = self.start(work)
        try:
            return future.result()
        finally:
            future.cancel()

    def close(self) -> None:
        """Cancels all running coroutines and ends the thread."""
        self.run(_cancel_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=30)
        if not self._thread.is_alive():
            self._loop.close()


async def _cancel_others() -> None:
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


class InFlightPolicy(ABC):
    """A `StreamingPolicy` around one coroutine, `_answer`. Its samples depend on the seeds and, through rounding, on
    the other requests in flight, so a batch need not give the same bytes again."""

    reproducible = False

    def __init__(self, name: str, chat: Chat, loop: BackgroundLoop, batch_size: int) -> None:
        self.name, self.batch_size, self.closed = name, batch_size, False
        self.failure: PolicyError | None = None
        """Why it closed itself, if it did; later requests fail with this reason too."""
        self.chat, self._loop = chat, loop

    @property
    def stops(self) -> frozenset[int]:
        """Stop token ids."""
        return self.chat.stops

    @abstractmethod
    async def _answer(self, request: Request, prompt: list[int], sampling: Sampling) -> Completion:
        """Completes one request whose prompt fits. Raises as `StreamingPolicy.submit`'s future."""

    def submit(self, request: Request, sampling: Sampling) -> Future[Completion]:
        """See `StreamingPolicy.submit`."""
        self._check_open()
        prompt = self.chat.prompt_ids(request.messages)
        try:
            self.chat.check_lengths([prompt], sampling.max_tokens)
        except PromptTooLongError as error:
            refused: Future[Completion] = Future()
            refused.set_exception(error)
            return refused
        return self._loop.start(self._answer(request, prompt, sampling))

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Completions in the order of the requests, all of them in flight at once.

        Raises:
            PromptTooLongError: some prompts leave no room for `sampling.max_tokens`.
            PolicyError, ConfigError: as `submit`'s futures; the other requests are cancelled.
        """
        prompts = (self.chat.prompt_ids(request.messages) for request in requests)
        return self._answer_all(requests, prompts, sampling)

    def generate_ids(
        self, prompts: Sequence[Sequence[int]], seeds: Sequence[int], sampling: Sampling
    ) -> list[Completion]:
        """As `generate`, for prompts given as token ids, each with its own sampling seed."""
        return self._answer_all([Request((), seed) for seed in seeds], map(list, prompts), sampling)

    def _answer_all(
        self, requests: Sequence[Request], prompts: Iterable[list[int]], sampling: Sampling
    ) -> list[Completion]:
        """Prompts are tokenised one by one: the first is already submitted while the next is tokenised."""
        self._check_open()
        futures: list[Future[Completion]] = []
        problems: dict[int, str] = {}
        try:
            for position, (request, prompt) in enumerate(zip(requests, prompts, strict=True)):
                try:
                    self.chat.check_lengths([prompt], sampling.max_tokens)
                except PromptTooLongError as error:
                    problems[position] = error.problems[0]
                else:
                    futures.append(self._loop.start(self._answer(request, prompt, sampling)))
            if problems:
                raise PromptTooLongError(problems)
            return _collect(futures)
        finally:
            for future in futures:
                future.cancel()

    def _check_open(self) -> None:
        if self.closed:
            raise self.failure or PolicyError(f"{self.name} was closed: load it again")

    def count_tokens(self, text: str) -> int:
        """Number of tokens of a text, without chat markup."""
        return len(self.chat.encode(text))

    @abstractmethod
    def close(self) -> None:
        """Releases the engine or client."""


def _collect(futures: Sequence[Future[Completion]]) -> list[Completion]:
    """Their results; one error names every prompt that the server found too long."""
    results: list[Completion] = []
    problems: dict[int, str] = {}
    for position, future in enumerate(futures):
        try:
            results.append(future.result())
        except PromptTooLongError as error:
            problems[position] = error.problems[0]
    if problems:
        raise PromptTooLongError(problems)
    return results
