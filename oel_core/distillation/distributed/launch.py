"""Runs a distillation under `accelerate launch`, one process per GPU; its configuration files are in `accelerate/`.

The job is passed as a JSON file, step records are read back from `steps.jsonl`, and an error is returned as JSON. The
processes are terminated when the parent exits, also after SIGKILL.
"""

import contextlib
import faulthandler
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import torch

from oel_core import errors
from oel_core.config.run import DistillConfig, ModelConfig
from oel_core.distillation.distributed.ranks import DataParallel, Ranks, SingleProcess
from oel_core.distillation.training.checkpoints import step_of
from oel_core.distillation.training.job import Job
from oel_core.distillation.training.step_records import OnStep, StepRecord
from oel_core.errors import ConfigError, DistillationError, OelError
from oel_core.models.loading import pick_device
from oel_core.runs.files import write_atomic
from oel_core.runs.guardian import die_with_parent, guarded
from oel_core.runs.manifest import read_record
from oel_core.types import Record

FOLDER = "processes"
_JOB, _ERROR, _LOG = "job.json", "error.json", "processes.log"
_POLL_S, _GRACE_S, _TAIL = 0.2, 10.0, 20


class Failure(Record):
    """The exception that ended a process."""

    kind: str
    """Class name in `oel_core.errors`."""
    message: str


def launch(job: Job, on_step: OnStep | None = None) -> None:
    """Runs `train` in `distill.processes` processes and waits for the checkpoint.

    Raises:
        OelError: raised in one of the processes; the type is kept.
        DistillationError: a process exited without one; the message has the last lines of its output.
    """
    require_devices(job.model, job.config)
    folder = job.workdir / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_atomic(folder / _JOB, job.model_dump_json().encode())
    job.log.cut_after(step_of(job.checkpoints.latest()))
    offset = job.log.path.stat().st_size
    with _running(job, folder) as process:
        while process.poll() is None:
            time.sleep(_POLL_S)
            offset = _report_steps(job, offset, on_step)
    _report_steps(job, offset, on_step)
    if process.returncode:
        raise _failure(folder, process.returncode)
    shutil.rmtree(folder)


def require_devices(model: ModelConfig, config: DistillConfig) -> None:
    """Raises ConfigError where `distill.processes` exceeds the number of GPUs."""
    if pick_device(model).type == "cuda" and config.processes > torch.cuda.device_count():
        raise ConfigError(
            f"distill.processes is {config.processes}, but there are {torch.cuda.device_count()} GPUs: lower it, or "
            "set model.device to cpu"
        )


def _command(job: Job, folder: Path) -> list[str]:
    name = "fsdp2" if job.config.sharding == "fsdp2" else "ddp"
    settings = resources.files("oel_core.distillation.distributed") / "accelerate" / f"{name}.yaml"
    threads = max(1, torch.get_num_threads() // job.config.processes)
    command = [
        *(sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(settings)),
        *("--num_processes", str(job.config.processes), "--num_cpu_threads_per_process", str(threads)),
        *("--main_process_port", "0", "-m", "oel_core.distillation.training.run", str(folder)),
    ]
    return guarded(command, _GRACE_S)


@contextmanager
def _running(job: Job, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The launcher process; terminated when the block is left early."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with (folder / _LOG).open("ab") as output:
        process = subprocess.Popen(
            _command(job, folder),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


def _report_steps(job: Job, offset: int, on_step: OnStep | None) -> int:
    """Passes the records after byte `offset` of the log to `on_step`. Returns the new offset."""
    with job.log.path.open("rb") as file:
        file.seek(offset)
        whole, end, _ = file.read().rpartition(b"\n")  # the last line may be incomplete
    if on_step is not None:
        for line in whole.splitlines():
            on_step(StepRecord.model_validate_json(line))
    return offset + len(whole) + len(end)


def _failure(folder: Path, status: int) -> OelError:
    if (folder / _ERROR).exists():
        failure = read_record(folder / _ERROR, Failure)
        kind = getattr(errors, failure.kind, DistillationError)
        found: OelError = kind(failure.message)
        return found
    said = (folder / _LOG).read_text(encoding="utf-8", errors="replace")
    own = said.partition("torch/distributed/elastic")[0].splitlines()[:-1]  # the launcher's report comes after it
    return DistillationError(
        f"a process of the distillation ended with status {status}. {folder / _LOG} says:\n"
        + "\n".join((own or said.splitlines())[-_TAIL:])
    )


# ---- runs in each process ----


def process_job(train: Callable[[Job, Ranks], None]) -> None:
    """The main function of a process: `accelerate launch ... -m oel_core.distillation.training.run FOLDER`."""
    die_with_parent()  # workers have their own sessions, so signals to the launcher's group miss them
    faulthandler.enable()
    folder = Path(sys.argv[1])
    try:
        job = read_record(folder / _JOB, Job)
        train(job, init_ranks(job))
    except OelError as error:
        failure = Failure(kind=type(error).__name__, message=str(error))
        with contextlib.suppress(FileExistsError), (folder / _ERROR).open("x", encoding="utf-8") as file:
            file.write(failure.model_dump_json())
        raise
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # all files are flushed; gloo's threads sometimes abort the interpreter at shutdown


def init_ranks(job: Job) -> Ranks:
    """Initialises the process group.

    `ACCELERATE_USE_FSDP`, which the configuration file sets, is read and removed: accelerate's own wrapping expects
    the model's forward to return the loss.
    """
    from accelerate import PartialState

    sharded = os.environ.pop("ACCELERATE_USE_FSDP", "false").lower() == "true"
    state = PartialState(cpu=pick_device(job.model).type == "cpu")
    if state.num_processes == 1:
        return SingleProcess()
    if not sharded:
        return DataParallel(state.device)
    from oel_core.distillation.distributed.sharding import FullySharded

    return FullySharded(state.device, mixed=job.mixed)
