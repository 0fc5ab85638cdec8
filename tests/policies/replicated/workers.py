"""Workers without Ray: what they are given and what they give back is copied as between processes."""

from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import cloudpickle

from oel_core.policies.replicated.dispatch import LostWorkerError


def copied(value: Any) -> Any:
    """A copy as Ray makes it between processes. Only values that the test itself has just made are read back."""
    return cloudpickle.loads(cloudpickle.dumps(value))


def done(result: Any = None, error: Exception | None = None) -> Future[Any]:
    future: Future[Any] = Future()
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
    return future


class FakeWorker:
    """Works at once. `lost` says at which of its calls it is lost, after having done the work."""

    def __init__(self, lost: Collection[int] = (), starts: bool | None = True) -> None:
        """`starts`: None never gets ready, False cannot be started."""
        self.lost, self.starts = lost, starts
        self.calls, self.started, self.closed = 0, 0, False

    def start(self) -> Future[Any]:
        self.started += 1
        if self.starts is None:
            return Future()
        return done() if self.starts else done(error=LostWorkerError("no such package"))

    def submit(self, work: Callable[[Any], Any], item: Any) -> Future[Any]:
        self.calls += 1
        try:
            result = copied(copied(work)(copied(item)))
        except Exception as error:
            return done(error=copied(error))
        return done(error=LostWorkerError("killed")) if self.calls - 1 in self.lost else done(result)

    def close(self) -> None:
        self.closed = True


class ThreadWorker(FakeWorker):
    """Works in a thread of its own."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = ThreadPoolExecutor(1)

    def submit(self, work: Callable[[Any], Any], item: Any) -> Future[Any]:
        return self._thread.submit(work, item)
