"""A distillation in processes of its own, one for each GPU, by `accelerate launch`; settings lie in `accelerate/`.

The job travels as one JSON file, steps come back line by line in `steps.jsonl`, and an error as JSON. The processes end
with the one that started them, however it ends.
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
from oel_core.distillation.distributed.ranks import Alone, Ranks, Replicas
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
_LOOK_S, _GRACE_S, _TAIL = 0.2, 10.0, 20


class Failure(Record):
    """What stopped a process."""

    kind: str
    """Name of a type in `oel_core.errors`."""
    message: str


def launch(job: Job, on_step: OnStep | None = None) -> None:
    """Runs `train` in `distill.processes` processes and waits for the checkpoint.

    Raises:
        OelError: what one of the processes raised, as the type it was.
        DistillationError: a process ended in another way; the message has the end of its output.
    """
    require_devices(job.model, job.config)
    folder = job.workdir / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_atomic(folder / _JOB, job.model_dump_json().encode())
    job.log.cut_after(step_of(job.checkpoints.latest()))
    told = job.log.path.stat().st_size
    with _running(job, folder) as process:
        while process.poll() is None:
            time.sleep(_LOOK_S)
            told = _tell(job, told, on_step)
    _tell(job, told, on_step)
    if process.returncode:
        raise _failure(folder, process.returncode)
    shutil.rmtree(folder)


def require_devices(model: ModelConfig, config: DistillConfig) -> None:
    """Refuses more processes than GPUs. ConfigError says how many there are."""
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
    """The guarded processes; ended where the block is left early."""
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


def _tell(job: Job, told: int, on_step: OnStep | None) -> int:
    """Hands on the steps that were written behind the first `told` bytes of the log; how many bytes are told now."""
    with job.log.path.open("rb") as file:
        file.seek(told)
        whole, end, _ = file.read().rpartition(b"\n")  # the last line may be half written
    if on_step is not None:
        for line in whole.splitlines():
            on_step(StepRecord.model_validate_json(line))
    return told + len(whole) + len(end)


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


# ---- in each process ----


def process_job(train: Callable[[Job, Ranks], None]) -> None:
    """The main function of a process: `accelerate launch ... -m oel_core.distillation.training.run FOLDER`."""
    die_with_parent()  # workers are started in sessions of their own, where no signal to the launcher's group reaches
    faulthandler.enable()
    folder = Path(sys.argv[1])
    try:
        job = read_record(folder / _JOB, Job)
        train(job, join(job))
    except OelError as error:
        failure = Failure(kind=type(error).__name__, message=str(error))
        with contextlib.suppress(FileExistsError), (folder / _ERROR).open("x", encoding="utf-8") as file:
            file.write(failure.model_dump_json())
        raise
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # everything is on the disk, and gloo's threads now and then abort an interpreter that shuts down


def join(job: Job) -> Ranks:
    """Meets the other processes.

    `ACCELERATE_USE_FSDP`, which the configuration file sets, is taken note of and removed: accelerate's own wrapping
    expects the loss to come out of the model's forward.
    """
    from accelerate import PartialState

    divided = os.environ.pop("ACCELERATE_USE_FSDP", "false").lower() == "true"
    state = PartialState(cpu=pick_device(job.model).type == "cpu")
    if state.num_processes == 1:
        return Alone()
    if not divided:
        return Replicas(state.device)
    from oel_core.distillation.distributed.sharding import Shards

    return Shards(state.device, mixed=job.mixed)
