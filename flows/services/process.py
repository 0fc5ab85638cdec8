"""A detached process with its state file and log: started in its own session, terminated with its process group.

The state file identifies the process by more than its id, so a recycled process id is neither mistaken for the service
nor terminated by `down`.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from oel_core.errors import ServiceError
from oel_core.runs.files import write_atomic
from oel_core.runs.groups import end_groups, group_is_running
from oel_core.runs.manifest import read_record
from oel_core.runs.processes import Process, is_alive, process, this_machine
from oel_core.types import Record

HOME, STATE, LOGS = ".oel", "services", "logs"
TAIL = 12
State = Literal["running", "unhealthy", "dead", "stopped"]


@dataclass(frozen=True)
class Service:
    """A service to run."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    """Added to this process's environment; never stored."""
    url: str
    healthy: Callable[[], bool]
    """Health check; polled while it starts."""
    keeps_children: bool = False
    """Its children may finish after its end (a worker's flow runs)."""


class Started(Record):
    """`services/<name>.json`: a service that was started and not ended yet."""

    name: str
    process: Process
    groups: tuple[int, ...]
    """Process groups that may still have members: its own, and those of dead predecessors that had children."""
    url: str
    since: float
    """Seconds since 1970, for people."""


def state_path(root: Path, name: str) -> Path:
    """State file of a service."""
    return root / HOME / STATE / f"{name}.json"


def log_path(root: Path, name: str) -> Path:
    """Log file of a service."""
    return root / HOME / LOGS / f"{name}.log"


def started(root: Path) -> list[Started]:
    """All services that were started under `root` and not stopped, dead ones included."""
    paths = sorted((root / HOME / STATE).glob("*.json"))
    return [read_record(path, Started) for path in paths]


def find(root: Path, name: str) -> Started | None:
    """The started service of this name, or None."""
    return next((one for one in started(root) if one.name == name), None)


def runs(one: Started) -> bool:
    """Whether the process is alive. A process on another machine counts as alive."""
    return is_alive(one.process) is not False


def start(root: Path, service: Service) -> Started:
    """Starts a service detached from this shell, after `clear`.

    Raises:
        ServiceError: the command cannot be run.
    """
    kept = clear(root, service)
    log = log_path(root, service.name)
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with log.open("ab") as output:
            output.write(f"\n--- {time.strftime('%Y-%m-%d %H:%M:%S')} oel up\n".encode())
            output.flush()
            child = subprocess.Popen(
                list(service.command),
                env={**os.environ, **service.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
    except OSError as error:
        raise ServiceError(f"{service.name} cannot be started ({error}): see {log}") from error
    one = Started(
        name=service.name,
        process=process(child.pid),
        groups=(child.pid, *kept),
        url=service.url,
        since=time.time(),
    )
    write_atomic(state_path(root, service.name), one.model_dump_json(indent=1).encode())
    return one


def clear(root: Path, service: Service) -> tuple[int, ...]:
    """Terminates the remaining processes of a dead predecessor; returns process groups that are allowed to finish."""
    before = find(root, service.name)
    if before is None or before.process.machine != this_machine():
        return ()
    left = tuple(group for group in before.groups if group_is_running(group))
    if service.keeps_children:
        return left
    end_groups(left, grace_s=5)
    return ()


def wait_until_healthy(root: Path, service: Service, one: Started, timeout_s: float) -> None:
    """Returns when the service is healthy.

    Raises:
        ServiceError: it exited or was not healthy in time; the message ends with the last lines of its log.
    """
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if is_alive(one.process) is False:
            raise ServiceError(f"{service.name} ended while it was starting:\n{tail(root, service.name)}")
        if service.healthy():
            return
        time.sleep(0.5)
    raise ServiceError(
        f"{service.name} did not answer at {service.url} within {timeout_s:.0f} s:\n{tail(root, service.name)}"
    )


def end(root: Path, one: Started, *, grace_s: float) -> None:
    """Terminates its process groups and removes its state. Groups from before a reboot do not exist any more.

    Raises:
        ServiceError: it runs on another machine.
    """
    require_here(root, one)
    if one.process.machine.boot == this_machine().boot:
        end_groups([group for group in one.groups if group_is_running(group)], grace_s=grace_s)
    state_path(root, one.name).unlink(missing_ok=True)


def require_here(root: Path, one: Started) -> None:
    """Raises ServiceError for a service of another machine or container, whose processes are not visible here."""
    if is_alive(one.process) is None:
        raise ServiceError(
            f"{one.name} was started on {one.process.machine.host}, which is not this machine or container: run "
            f"`oel down` there or, if that one is gone, delete {state_path(root, one.name)}"
        )


def tail(root: Path, name: str) -> str:
    """The last lines of a service's log."""
    log = log_path(root, name)
    lines = log.read_text(errors="replace").splitlines()[-TAIL:] if log.exists() else []
    return "\n".join(f"  {line}" for line in [*lines, f"(log: {log})"])


def python(*arguments: str) -> list[str]:
    """A command line for this Python installation."""
    return [sys.executable, *arguments]
