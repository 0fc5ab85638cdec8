"""The other machines of a distillation over nodes: `join` waits for the distillations of a run and takes part in each.

It reads the run's folder, which all nodes share, and writes nothing there except as ranks of a distillation.
"""

import math
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from oel_core.distillation.distributed.launch import FOLDER, require_devices, take_part
from oel_core.distillation.distributed.process import JOB
from oel_core.distillation.distributed.rendezvous import INVITATION, Invitation, answers, versions
from oel_core.distillation.training.job import Job
from oel_core.errors import ConfigError, OelError
from oel_core.runs.folder import CONFIG, RunFolder
from oel_core.runs.lease import HeartbeatObserver, is_dead, read_lease
from oel_core.runs.manifest import read_optional, read_record
from oel_core.runs.stored.local_files import LEASE

STAGE = "distill"
_POLL_S, _START_S = 1.0, 60.0


def join(run: Path, wait_s: float, say: Callable[[str], None]) -> int:
    """Takes part in the distillations of a run until its last one, or until no process has worked on it for `wait_s` s.

    Args:
        run: its folder, which need not exist yet.
        wait_s: also how long to wait for the run to start.
        say: told of every distillation's start and end.

    Returns:
        In how many distillations it took part.

    Raises:
        ConfigError: no process has worked on this run, or it has other versions of oel or torch, or more GPUs.
        OelError: the last distillation failed, and no process went on with it.
    """
    visitor = _Visitor(run, say)
    until = time.monotonic() + wait_s
    while time.monotonic() < until and not visitor.is_last():
        if visitor.visit() or visitor.is_worked_on():
            until = time.monotonic() + wait_s
        time.sleep(_POLL_S)
    if visitor.failed is not None:
        raise visitor.failed
    if not visitor.worked_on:
        raise ConfigError(f"no process has worked on {run} for {wait_s:g} s: start the run, or wait longer (--wait)")
    return visitor.finished


class _Visitor:
    """What `join` knows of its run."""

    def __init__(self, run: Path, say: Callable[[str], None]) -> None:
        self._run, self._say = run, say
        self._observer = HeartbeatObserver()
        self._done: set[str] = set()
        self._unreachable: dict[str, float] = {}
        self.finished = 0
        """Distillations that succeeded."""
        self.failed: OelError | None = None
        """Of the last distillation."""
        self.worked_on = False
        """Whether a process was seen that works on the run."""

    def is_worked_on(self) -> bool:
        """Whether a live process holds the run's lease, or may do so."""
        lease = read_lease(self._run / LEASE)
        if lease is None or is_dead(lease, self._observer):
            return False
        self.worked_on = True
        return True

    def is_last(self) -> bool:
        """Whether the run has no distillation left after one in which this machine took part."""
        if not self.finished or self.failed is not None or not (self._run / CONFIG).exists():
            return False
        run = RunFolder(self._run)
        return run.has(run.config().rounds, STAGE)

    def visit(self) -> bool:
        """Takes part in the run's distillation if one waits for nodes. Whether there was one."""
        for path in self._run.glob(f"round_*/.{STAGE}.partial/{FOLDER}/{INVITATION}"):
            invitation = read_optional(path, Invitation)
            if invitation is None or invitation.nodes == 1 or invitation.attempt in self._done:
                continue
            if not answers(invitation.rendezvous):
                self._cannot_reach(invitation)
                continue
            self._done.add(invitation.attempt)
            self.worked_on = True
            self._take_part(path.parent, invitation)
            return True
        return False

    def _cannot_reach(self, invitation: Invitation) -> None:
        """Says so once, after the time that node 0 needs to start. It may be of a killed run, so it is no error."""
        since = self._unreachable.setdefault(invitation.attempt, time.monotonic())
        if time.monotonic() - since >= _START_S:
            self._unreachable[invitation.attempt] = math.inf
            self._say(
                f"A distillation of {self._run.name} waits at {invitation.rendezvous}, where nothing answers: its run "
                "has ended, or this machine cannot connect to that address (distill.rendezvous)"
            )

    def _take_part(self, folder: Path, invitation: Invitation) -> None:
        if invitation.versions != versions():
            raise ConfigError(
                f"the run has {invitation.versions}, this machine {versions()}: install the same on all machines"
            )
        job = read_record(folder / JOB, Job)
        require_devices(job.model, job.config)
        stage = folder.parents[1].name
        own = Path(tempfile.mkdtemp(prefix="oel-join-"))  # not in the run's folder, which the run's process cleans
        self._say(f"{stage}: joins at {invitation.rendezvous}")
        try:
            take_part(folder, own, invitation)
        except OelError as error:
            self.failed = error
            self._say(f"{stage}: failed. {error}")
        else:
            self.finished, self.failed = self.finished + 1, None
            self._say(f"{stage}: done")
            shutil.rmtree(own, ignore_errors=True)
