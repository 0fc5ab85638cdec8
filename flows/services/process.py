"""One detached process with its state file and log: started in a session of its own, ended with its whole group.

The state file says which process it is in a way that a recycled process id cannot fake, so `down` never ends a
stranger and a dead service is known to be dead.
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
from oel_core.runs.groups import end_groups, group_lives
from oel_core.runs.manifest import read_record
from oel_core.runs.processes import Process, is_alive, process, this_machine
from oel_core.types import Record

HOME, STATE, LOGS = ".oel", "services", "logs"
TAIL = 12
State = Literal["running", "unhealthy", "dead", "stopped"]


@dataclass(frozen=True)
class Service:
    """What is to run."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    """Added to this process's own; never written down."""
    url: str
    healthy: Callable[[], bool]
    """Whether it answers; called again and again while it starts."""
    keeps_children: bool = False
    """Its children may outlive it and finish their work (a worker's flow runs)."""


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
    """Where a service's state is noted."""
    return root / HOME / STATE / f"{name}.json"


def log_path(root: Path, name: str) -> Path:
    """Where a service's output goes."""
    return root / HOME / LOGS / f"{name}.log"


def started(root: Path) -> list[Started]:
    """All services that were started under `root` and not ended, dead ones too."""
    paths = sorted((root / HOME / STATE).glob("*.json"))
    return [read_record(path, Started) for path in paths]


def find(root: Path, name: str) -> Started | None:
    """One of them, or None."""
    return next((one for one in started(root) if one.name == name), None)


def runs(one: Started) -> bool:
    """Whether the process is alive. One on another machine counts as alive: nothing here can end it."""
    return is_alive(one.process) is not False


def start(root: Path, service: Service) -> Started:
    """Starts it detached from this shell, after `clear`.

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
    """Ends what a dead predecessor left in its process groups; returns the groups that may finish their work."""
    before = find(root, service.name)
    if before is None or before.process.machine != this_machine():
        return ()
    left = tuple(group for group in before.groups if group_lives(group))
    if service.keeps_children:
        return left
    end_groups(left, grace_s=5)
    return ()


def wait_until_healthy(root: Path, service: Service, one: Started, timeout_s: float) -> None:
    """Returns when the service answers.

    Raises:
        ServiceError: it died or did not answer in time; the message ends with its last lines.
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
    """Ends all of its process groups and forgets it. Groups of another start of this machine are gone already.

    Raises:
        ServiceError: it runs on another machine.
    """
    require_here(root, one)
    if one.process.machine.boot == this_machine().boot:
        end_groups([group for group in one.groups if group_lives(group)], grace_s=grace_s)
    state_path(root, one.name).unlink(missing_ok=True)


def require_here(root: Path, one: Started) -> None:
    """Raises ServiceError for a service of another machine or container: nothing here can tell whether it lives."""
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
    """A command that runs in this installation."""
    return [sys.executable, *arguments]
