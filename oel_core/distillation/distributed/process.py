"""The main function of each process of a distillation: `python -m oel_core.distillation.training.run FOLDER OWN`."""

import contextlib
import faulthandler
import os
import sys
from collections.abc import Callable
from pathlib import Path

from oel_core.distillation.distributed.failures import ERROR, RaisedError
from oel_core.distillation.distributed.ranks import DataParallel, Ranks, SingleProcess
from oel_core.distillation.training.job import Job
from oel_core.errors import OelError
from oel_core.models.loading import pick_device
from oel_core.runs.guardian import die_with_parent
from oel_core.runs.manifest import read_record

JOB = "job.json"


def process_job(train: Callable[[Job, Ranks], None]) -> None:
    """Runs the job of FOLDER; an error of this project is left in OWN, the node's folder."""
    die_with_parent()  # processes have their own sessions, so signals to the launcher's group miss them
    faulthandler.enable()
    folder, own = Path(sys.argv[1]), Path(sys.argv[2])
    try:
        job = read_record(folder / JOB, Job)
        train(job, init_ranks(job))
    except OelError as error:
        raised = RaisedError(error=type(error).__name__, message=str(error))
        with contextlib.suppress(FileExistsError), (own / ERROR).open("x", encoding="utf-8") as file:
            file.write(raised.model_dump_json())
        raise
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # all files are flushed; gloo's threads sometimes abort the interpreter at shutdown


def init_ranks(job: Job) -> Ranks:
    """Initialises the process group from the environment that the agent sets."""
    from accelerate import PartialState

    state = PartialState(cpu=pick_device(job.model).type == "cpu")
    if state.num_processes == 1:
        return SingleProcess()
    served = job.config.rollouts != "transformers"
    if job.config.sharding == "none":
        return DataParallel(state.device, served=served)
    from oel_core.distillation.distributed.sharding import FullySharded

    return FullySharded(state.device, served=served, mixed=job.mixed)
