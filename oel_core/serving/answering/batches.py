"""Batches requests to a policy in this process, in one thread."""

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from oel_core.config.sampling import Sampling
from oel_core.errors import PolicyError
from oel_core.policies.base import Completion, Policy, Request, WatchedPolicy

log = logging.getLogger(__name__)


@dataclass
class Job:
    """One request; `on_token` is called in the thread with every token and returns whether the response ends there."""

    request: Request
    sampling: Sampling
    on_token: Callable[[int], bool]
    done: Future[Completion] = field(default_factory=Future)


class Batcher:
    """Static batching: requests with the same sampling settings are generated together, one batch after another."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._inbound: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._waiting: deque[Job] = deque()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="batches", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> Future[Completion]:
        """Queues a request. Cancelling the future removes it if it has not started."""
        self._inbound.put(job)
        return job.done

    def close(self) -> None:
        """Answers what is queued, ends the thread and frees the policy."""
        self._inbound.put(None)
        self._thread.join()
        self._policy.close()

    def _work(self) -> None:
        while self._receive():
            batch = [job for job in self._next_batch() if job.done.set_running_or_notify_cancel()]
            if batch:
                self._answer(batch)

    def _receive(self) -> bool:
        """Reads the queue, blocking if no request waits. Returns false at the end."""
        try:
            while not self._closing:
                found = self._inbound.get_nowait() if self._waiting else self._inbound.get()
                if found is None:
                    self._closing = True
                else:
                    self._waiting.append(found)
        except queue.Empty:
            pass
        return bool(self._waiting)

    def _next_batch(self) -> list[Job]:
        sampling, most = self._waiting[0].sampling, self._policy.batch_size
        batch = [job for job in self._waiting if job.sampling == sampling][:most]
        chosen = {id(job) for job in batch}
        self._waiting = deque(job for job in self._waiting if id(job) not in chosen)
        return batch

    def _answer(self, batch: Sequence[Job]) -> None:
        try:
            requests, sampling = [job.request for job in batch], batch[0].sampling
            if isinstance(self._policy, WatchedPolicy):
                found = self._policy.generate_watched(
                    requests,
                    sampling,
                    lambda rows, tokens: [batch[row].on_token(token) for row, token in zip(rows, tokens, strict=True)],
                )
            else:
                found = self._policy.generate(requests, sampling)
        except Exception as error:
            log.error("a batch of %d request(s) failed: %s", len(batch), error)
            for job in batch:
                job.done.set_exception(error if isinstance(error, PolicyError) else PolicyError(str(error)))
            return
        for job, completion in zip(batch, found, strict=True):
            job.done.set_result(completion)
