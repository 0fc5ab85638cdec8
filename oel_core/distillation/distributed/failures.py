"""Why a node of a distillation ended, and the error that is raised for it."""

import signal
from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path

from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from oel_core import errors
from oel_core.errors import DistillationError, OelError
from oel_core.types import Record

ERROR, REPORT, LOG = "error.json", "failure.json", "processes.log"
_TAIL = 20


class Kind(IntEnum):
    """Causes of an end; where nodes name several, the largest is the first cause and the others follow from it."""

    STOPPED = 0
    """Another node has ended."""
    EXIT = 1
    """A rank exited, as all do that lose their connection to a rank."""
    LOST = 2
    """A node gives no sign any more."""
    KILLED = 3
    """A signal ended a rank or a launcher."""
    ERROR = 4
    """A rank raised one of this project's errors."""


class Failure(Record):
    """The reason for the end of one node."""

    node: int = 0
    kind: Kind
    error: str = "DistillationError"
    """Class name in `oel_core.errors`."""
    message: str

    def as_error(self) -> OelError:
        """The exception to raise."""
        kind = getattr(errors, self.error, DistillationError)
        made: OelError = kind(self.message)
        return made


class RaisedError(Record):
    """`error.json`: the exception of a rank."""

    error: str
    message: str


def of_ranks(failures: Mapping[int, ProcessFailure], node: int, host: str, nodes: int, folder: Path) -> Failure:
    """The failure of a node's ranks.

    Args:
        failures: by rank; empty if they were stopped because another node ended.
        node: number of the node.
        host: its name.
        nodes: how many there are; with one, the message does not name it.
        folder: of its log and of the error that a rank raised.
    """
    if (folder / ERROR).exists():
        raised = RaisedError.model_validate_json((folder / ERROR).read_bytes())
        return Failure(node=node, kind=Kind.ERROR, error=raised.error, message=raised.message)
    if not failures:
        return Failure(node=node, kind=Kind.STOPPED, message=f"node {node} ({host}) was stopped")
    rank = min(failures, key=lambda rank: (_certainty(failures[rank]), rank))
    found = failures[rank]
    place = f"rank {rank}" + (f" on node {node} ({host})" if nodes > 1 else "")
    what = f"was killed by {found.signal_name()}" if found.exitcode < 0 else f"exited with status {found.exitcode}"
    advice = "; SIGKILL is often the system's answer to full memory" if found.exitcode == -signal.SIGKILL else ""
    return Failure(
        node=node,
        kind=Kind.KILLED if found.exitcode < 0 else Kind.EXIT,
        message=f"{place} of the distillation {what} (process {found.pid}{advice}). {_told(folder)}",
    )


def _certainty(failure: ProcessFailure) -> int:
    """Order in which failures may be the cause. The agent itself ends the other ranks of a node by SIGTERM."""
    return 2 if failure.exitcode == -signal.SIGTERM else 1 if failure.exitcode >= 0 else 0


def of_launcher(status: int, host: str, folder: Path) -> Failure:
    """The failure of a node whose launcher ended without a report; `status` as of a shell, 137 for SIGKILL."""
    what = f"was killed by signal {status - 128}" if status > 128 else f"exited with status {status}"
    message = f"the launcher of the distillation on {host} {what}. {_told(folder)}"
    return Failure(kind=Kind.KILLED if status > 128 else Kind.EXIT, message=message)


def _told(folder: Path) -> str:
    """The last lines of a node's output, and how to go on."""
    log = folder / LOG
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL:] if log.exists() else []
    said = f" {log} ends with:\n" + "\n".join(lines) if lines else ""
    return f"Remove the cause and repeat the command: it resumes from the last checkpoint.{said}"
