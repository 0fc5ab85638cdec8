"""Runs work on a pool of workers, with results in the order of the items. Independent of what a worker is.

If a worker is lost, its item is assigned to the next free worker, and the worker is restarted. Workers that are still
starting get no items. Ray Data's `map_batches` also does this, but starts its actors, and loads their models, for every
call; extraction with previous knowledge makes one call per episode. `ray.util.ActorPool` does not replace lost actors.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, Protocol, TypeVar

from oel_core.errors import PolicyError

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_LOSSES = 4
"""Lost workers per item, and consecutive failed starts per worker, after which the run fails."""


class LostWorkerError(PolicyError):
    """A worker's process or node has died or cannot be reached."""


class Worker(Protocol):
    """A process that runs one item at a time. Its futures raise LostWorkerError if it is lost."""

    def start(self) -> Future[Any]:
        """Starts the worker unless it runs already; replaces a lost one. The future is done when it can run items."""
        ...

    def submit(self, work: Callable[[Any], Any], item: Any) -> Future[Any]:
        """Calls `work(item)` in the worker. The future also raises what `work` raises."""
        ...

    def close(self) -> None:
        """Stops the worker."""
        ...


def dispatch(workers: Sequence[Worker], work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`work(item)` of every item, in order. An item is taken from `items` only when a worker is free.

    Raises:
        PolicyError: `MAX_LOSSES` workers were lost on one item, or a worker failed to start as often.
        Exception: as `work`.
    """
    upcoming, again = enumerate(items), deque[tuple[int, Item]]()
    busy: dict[Future[Any], tuple[Worker, tuple[int, Item] | None]] = {w.start(): (w, None) for w in workers}
    idle: list[Worker] = []
    losses: Counter[object] = Counter()
    finished: dict[int, Result] = {}
    position, exhausted = 0, False
    while busy:
        for future in wait(busy, return_when=FIRST_COMPLETED).done:
            worker, assigned = busy.pop(future)
            try:
                result = future.result()
            except LostWorkerError as error:
                _count_loss(losses, worker if assigned is None else assigned[0], error)
                again.extend([] if assigned is None else [assigned])
                busy[worker.start()] = (worker, None)
                continue
            if assigned is None:
                del losses[worker]
            else:
                finished[assigned[0]] = result
            idle.append(worker)
        while idle and (again or not exhausted):
            following = again.popleft() if again else next(upcoming, None)
            exhausted = exhausted or following is None
            if following is not None:
                worker = idle.pop()
                busy[worker.submit(work, following[1])] = (worker, following)
        while position in finished:
            yield finished.pop(position)
            position += 1
        if exhausted and not again and all(assigned is None for _, assigned in busy.values()):
            return


def _count_loss(losses: Counter[object], of: object, error: LostWorkerError) -> None:
    losses[of] += 1
    if losses[of] == MAX_LOSSES:
        what = f"batch {of + 1} of the remaining ones was lost with" if isinstance(of, int) else "could not start"
        raise PolicyError(f"runner: {what} {MAX_LOSSES} workers in a row; the last error: {error}") from error
