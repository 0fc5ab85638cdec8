"""What the starter of several processes makes of their step log."""

from pathlib import Path

import pytest
import torch

from oel_core.distillation.distributed.launch import Failure, _command, _failure, _report_steps
from oel_core.distillation.training.job import Job
from oel_core.errors import ConfigError, DistillationError
from tests.builders import step_record
from tests.distillation.builders import arguments


def line(step: int) -> bytes:
    return step_record(step).model_dump_json().encode() + b"\n"


@pytest.fixture
def job(tmp_path: Path) -> Job:
    made = Job(**arguments(tmp_path / "model", tmp_path))
    made.log.path.write_bytes(b"")
    return made


def test_every_step_is_told_once_and_a_half_written_one_waits(job: Job) -> None:
    seen: list[int] = []

    def look(offset: int, more: bytes) -> int:
        with job.log.path.open("ab") as file:
            file.write(more)
        return _report_steps(job, offset, lambda record: seen.append(record.step))

    offset = look(0, b"")
    offset = look(offset, line(1) + line(2) + line(3)[:20])
    assert seen == [1, 2]
    assert offset == len(line(1) + line(2))
    offset = look(offset, line(3)[20:])
    assert seen == [1, 2, 3]
    assert look(offset, b"") == offset
    assert seen == [1, 2, 3]


def test_what_was_told_is_not_read_again(job: Job) -> None:
    seen: list[int] = []
    job.log.path.write_bytes(b"\0" * len(line(1)) + line(2))
    _report_steps(job, len(line(1)), lambda record: seen.append(record.step))
    assert seen == [2]
    assert _report_steps(job, len(line(1)), None) == len(line(1) + line(2)), "nobody listens, but the place moves on"


@pytest.mark.parametrize(("threads", "each"), [(8, 2), (7, 1), (1, 1)])
def test_processes_share_the_threads_of_the_one_that_starts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int, each: int
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    command = _command(Job(**arguments(tmp_path / "model", tmp_path, processes=4)), tmp_path)
    assert command[command.index("--num_processes") + 1] == "4"
    assert command[command.index("--num_cpu_threads_per_process") + 1] == str(each)
    assert command[-1] == str(tmp_path)


def test_an_error_of_a_process_is_raised_as_what_it_was(tmp_path: Path) -> None:
    (tmp_path / "error.json").write_text(Failure(kind="ConfigError", message="no such thing").model_dump_json())
    found = _failure(tmp_path, 1)
    assert (type(found), str(found)) == (ConfigError, "no such thing")


def test_of_a_process_that_died_the_last_lines_are_shown(tmp_path: Path) -> None:
    log = tmp_path / "processes.log"
    log.write_text(
        "".join(f"own {number}\n" for number in range(30)) + "E0101 /x/torch/distributed/elastic/y\nreport\n"
    )
    found = _failure(tmp_path, 9)
    assert isinstance(found, DistillationError)
    assert str(found).splitlines() == [
        f"a process of the distillation ended with status 9. {log} says:",
        *(f"own {number}" for number in range(10, 30)),
    ]
    log.write_text("E0101 /x/torch/distributed/elastic/y\nreport\n")
    assert str(_failure(tmp_path, 9)).endswith("elastic/y\nreport")
