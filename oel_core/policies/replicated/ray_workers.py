"""Workers that are actors of a Ray cluster (https://docs.ray.io). Ray is imported here alone, and only when asked for.

What goes between the run and its workers is pickled by Ray: whoever may connect to a cluster may run code on it. The
cluster of `runner.address: local` therefore asks for a token that only this process and its children know. It reports
no usage statistics and has no dashboard.
"""

import functools
import logging
import os
import secrets
from collections.abc import Callable
from concurrent.futures import Future
from importlib.util import find_spec
from typing import Any

from oel_core.config.serving import RunnerConfig
from oel_core.errors import ConfigError, PolicyError
from oel_core.policies.replicated.dispatch import LostWorkerError
from oel_core.runs.arithmetic import Arithmetic, arithmetic
from oel_core.runs.manifest import differences

INSTALL = "pip install 'oel[ray]'"
OBJECT_STORE_BYTES = 100 * 2**20
"""Shared memory of the cluster on this machine: what is handed over are texts and token ids."""
logger = logging.getLogger(__name__)


def check_installed() -> None:
    """Raises ConfigError with instructions if Ray is not installed. Imports nothing."""
    if find_spec("ray") is None:
        raise ConfigError(
            f"workers on Ray are asked for, and Ray is not installed: {INSTALL}, or do without (runner.use: local; oel "
            "import without --workers and --ray)"
        )


def start_workers(config: RunnerConfig) -> "list[RayWorker]":
    """The workers of a configuration, on a cluster that this process connects to if it has not yet. Returns at once:
    they begin to run when they are first used.

    Raises:
        ConfigError: Ray is not installed, or this machine has not what one worker asks for.
        PolicyError: the cluster cannot be reached.
    """
    check_installed()
    ray = _connected(config.address)
    asked = {"CPU": config.cpus, "GPU": config.gpus, "memory": config.memory_gib * 2**30, **config.resources}
    check_room(ray.nodes(), asked, config.address)
    actor = ray.remote(_Copy).options(
        num_cpus=config.cpus,
        num_gpus=config.gpus,
        memory=asked["memory"] or None,
        resources=config.resources or None,
        scheduling_strategy="SPREAD",
    )
    own, shared = arithmetic(), _Shared(ray)
    return [RayWorker(shared, lambda: actor.remote(own.threads if own else None)) for _ in range(config.workers)]


@functools.cache
def _connected(address: str) -> Any:
    """Ray, connected to the cluster. Raises PolicyError if there is none."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if address == "local":
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 would let any other process stop the run
    import ray

    local: dict[str, Any] = {}
    if address == "local":
        local = {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    try:
        ray.init(address=address, namespace="oel", log_to_driver=False, logging_level=logging.ERROR, **local)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise PolicyError(
            f"runner.address: no Ray cluster can be used at {address} ({error}): start one with `ray start --head`, "
            "with this version of Ray, or set runner.address to local"
        ) from error
    return ray


def check_room(nodes: list[dict[str, Any]], asked: dict[str, float], address: str) -> None:
    """A cluster may grow by nodes that have what a worker asks for; this machine does not."""
    totals = [node["Resources"] for node in nodes if node["Alive"]]
    if any(all(total.get(name, 0) >= amount for name, amount in asked.items()) for total in totals):
        return
    wanted = ", ".join(f"{name} {amount:g}" for name, amount in asked.items() if amount)
    found = "; ".join(", ".join(f"{name} {total[name]:g}" for name in asked if name in total) for total in totals)
    problem = (
        f"no node of the Ray cluster has what one worker asks for in section runner ({wanted}). There are: {found}"
    )
    if address == "local":
        raise ConfigError(problem)
    logger.warning("%s. Waiting for one", problem)


class _Copy:
    """The actor: holds what the work that it is given keeps loaded in its process."""

    def __init__(self, threads: int | None) -> None:
        """`threads` of one operation, as in the run's own process: Ray would set as many as there are `runner.cpus`."""
        if threads is not None:
            import torch

            torch.set_num_threads(threads)

    def ready(self) -> Arithmetic | None:
        return arithmetic()

    def run(self, work: Callable[[Any], Any], item: Any) -> Any:
        return work(item)


class _Shared:
    """What the workers of one run share: the last work that was handed out, and whether a warning was given."""

    def __init__(self, ray: Any) -> None:
        self.ray = ray
        self._work: Any = None
        self._stored: Any = None
        self._warned = False

    def stored(self, work: Any) -> Any:
        """Work in the cluster's object store, where each node reads it once, however many items there are."""
        if work is not self._work:
            self._work, self._stored = work, self.ray.put(work)
        return self._stored

    def compare(self, other: Arithmetic | None) -> None:
        own = arithmetic()
        if own is None or other is None or self._warned:
            return
        if changed := differences(own.model_dump(), other.model_dump()):
            self._warned = True
            logger.warning("a worker's arithmetic is not the run's own, so bytes may differ: %s", ", ".join(changed))


class RayWorker:
    """See `dispatch.Worker`.

    Args:
        shared: of all workers of the run.
        make: a new actor.
    """

    def __init__(self, shared: _Shared, make: Callable[[], Any]) -> None:
        self._shared, self._make = shared, make
        self._actor: Any = None
        self._lost = False

    def start(self) -> Future[Any]:
        """See `Worker.start`. Ray places the actor on a node that has room, at once or when one has."""
        if self._lost:
            self.close()
        if self._actor is None:
            self._actor = self._make()
        return self._watched(self._actor.ready.remote(), self._shared.compare)

    def submit(self, work: Callable[[Any], Any], item: Any) -> Future[Any]:
        """See `Worker.submit`."""
        return self._watched(self._actor.run.remote(self._shared.stored(work), item), lambda result: None)

    def close(self) -> None:
        """Ends the actor's process, whatever it does."""
        if self._actor is not None:
            self._shared.ray.kill(self._actor)
        self._actor, self._lost = None, False

    def _watched(self, reference: Any, seen: Callable[[Any], None]) -> Future[Any]:
        """The call's future, with Ray's errors replaced by what they stand for."""
        future: Future[Any] = Future()

        def settle(done: Future[Any]) -> None:
            error = done.exception()
            if error is None:
                seen(done.result())
                future.set_result(done.result())
            else:
                future.set_exception(self._meaning(error))

        reference.future().add_done_callback(settle)
        return future

    def _meaning(self, error: BaseException) -> BaseException:
        known = self._shared.ray.exceptions
        if isinstance(error, known.RayTaskError):
            cause = error.cause if isinstance(error.cause, BaseException) else PolicyError(str(error))
            cause.__cause__ = error  # it has the worker's traceback
            return cause
        gone = (known.RayActorError, known.NodeDiedError, known.ObjectLostError, known.OutOfMemoryError)
        if isinstance(error, gone):
            self._lost = True
            return LostWorkerError(str(error))
        return PolicyError(f"Ray: {error}") if isinstance(error, known.RayError) else error
