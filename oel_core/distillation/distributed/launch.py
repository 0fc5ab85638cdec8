"""Runs a distillation in several processes: `launch` on the run's machine, `take_part` on the others.

Both start a node (`node.py`). The job is passed as a JSON file in the run's folder, which all nodes share; step records
are read back from `steps.jsonl`. The processes are terminated when the one that started them exits, also after SIGKILL.
"""

import logging
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from oel_core.config.run import DistillConfig, ModelConfig
from oel_core.distillation.distributed.failures import LOG, REPORT, Failure, of_launcher
from oel_core.distillation.distributed.process import JOB
from oel_core.distillation.distributed.rendezvous import INVITATION, LOOPBACKS, Invitation, interface, versions
from oel_core.distillation.training.checkpoints import step_of
from oel_core.distillation.training.job import Job
from oel_core.distillation.training.step_records import OnStep, StepRecord
from oel_core.errors import ConfigError
from oel_core.models.loading import pick_device
from oel_core.runs.files import write_atomic
from oel_core.runs.guardian import guarded
from oel_core.runs.manifest import read_optional

logger = logging.getLogger(__name__)
FOLDER = "processes"
_POLL_S, _GRACE_S = 0.2, 10.0
_ANY_PORT = "127.0.0.1:0"
_INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


def launch(job: Job, on_step: OnStep | None = None) -> None:
    """Runs `train` in all processes of all nodes and waits for the checkpoint.

    Raises:
        OelError: raised in one of the processes; the type is kept.
        DistillationError: a process or a node ended without one, or a node has not come; the message says which.
    """
    require_devices(job.model, job.config)
    folder = job.workdir / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_atomic(folder / JOB, job.model_dump_json().encode())
    invitation = _invite(job.config)
    write_atomic(folder / INVITATION, invitation.model_dump_json().encode())
    if invitation.nodes > 1:
        logger.warning(
            "distillation waits at %s for %d more nodes, at most %g s: start `oel join` there",
            *(invitation.rendezvous, invitation.nodes - 1, invitation.wait_s),
        )
    job.log.cut_after(step_of(job.checkpoints.latest()))
    offset = job.log.path.stat().st_size

    def look() -> None:
        nonlocal offset
        offset = _report_steps(job, offset, on_step)

    _run_node(folder, folder, invitation, look)
    look()
    shutil.rmtree(folder)


def take_part(folder: Path, own: Path, invitation: Invitation) -> None:
    """Runs this machine's processes of the distillation whose job is in `folder`; log and errors go to `own`.

    Raises:
        OelError: the distillation has failed, here or on another node; as `launch`.
    """
    _run_node(folder, own, invitation, lambda: None)


def require_devices(model: ModelConfig, config: DistillConfig) -> None:
    """Raises ConfigError where `distill.processes` exceeds the number of GPUs."""
    if pick_device(model).type == "cuda" and config.processes > torch.cuda.device_count():
        raise ConfigError(
            f"distill.processes is {config.processes}, but there are {torch.cuda.device_count()} GPUs: lower it, or "
            "set model.device to cpu"
        )


def _invite(config: DistillConfig) -> Invitation:
    return Invitation(
        attempt=uuid.uuid4().hex,
        rendezvous=config.rendezvous if config.nodes > 1 else _ANY_PORT,
        nodes=config.nodes,
        processes=config.processes,
        threads=max(1, torch.get_num_threads() // config.processes),
        wait_s=config.nodes_wait_s,
        versions=versions(),
    )


def _run_node(folder: Path, own: Path, invitation: Invitation, look: Callable[[], None]) -> None:
    """Runs a node to its end and calls `look` now and then. Raises its failure."""
    with _running(folder, own, invitation) as process:
        while process.poll() is None:
            time.sleep(_POLL_S)
            look()
    if process.returncode:
        found = read_optional(own / REPORT, Failure)
        raise (found or of_launcher(process.returncode, socket.gethostname(), own)).as_error()


@contextmanager
def _running(folder: Path, own: Path, invitation: Invitation) -> Iterator[subprocess.Popen[bytes]]:
    """The node's process; terminated when the block is left early."""
    command = [sys.executable, "-m", "oel_core.distillation.distributed.node", str(folder), str(own)]
    with (own / LOG).open("ab") as output:
        process = subprocess.Popen(
            guarded(command, _GRACE_S),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_environment(invitation),
            start_new_session=True,
        )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


def _environment(invitation: Invitation) -> dict[str, str]:
    """Of a node: this process's, with the threads of each rank and, unless it is set, the interface for their data.

    Gloo gets the one of the rendezvous. NCCL finds the fastest by itself, except that nodes that meet on loopback use
    only that.
    """
    own = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": str(invitation.threads)}
    found = interface(invitation.rendezvous)
    if found is not None:
        names = _INTERFACES if found in LOOPBACKS else _INTERFACES[:1]
        own |= {name: os.environ.get(name, found) for name in names}
    return {**os.environ, **own}


def _report_steps(job: Job, offset: int, on_step: OnStep | None) -> int:
    """Passes the records after byte `offset` of the log to `on_step`. Returns the new offset."""
    with job.log.path.open("rb") as file:
        file.seek(offset)
        whole, end, _ = file.read().rpartition(b"\n")  # the last line may be incomplete
    if on_step is not None:
        for line in whole.splitlines():
            on_step(StepRecord.model_validate_json(line))
    return offset + len(whole) + len(end)
