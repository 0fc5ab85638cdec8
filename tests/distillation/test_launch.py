"""What the starter of several processes makes of their step log."""

from pathlib import Path

import pytest

from oel_core.distillation.job import Job
from oel_core.distillation.launch import _tell
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

    def look(told: int, more: bytes) -> int:
        with job.log.path.open("ab") as file:
            file.write(more)
        return _tell(job, told, lambda record: seen.append(record.step))

    told = look(0, b"")
    told = look(told, line(1) + line(2) + line(3)[:20])
    assert seen == [1, 2]
    assert told == len(line(1) + line(2))
    told = look(told, line(3)[20:])
    assert seen == [1, 2, 3]
    assert look(told, b"") == told
    assert seen == [1, 2, 3]


def test_what_was_told_is_not_read_again(job: Job) -> None:
    seen: list[int] = []
    job.log.path.write_bytes(b"\0" * len(line(1)) + line(2))
    _tell(job, len(line(1)), lambda record: seen.append(record.step))
    assert seen == [2]
    assert _tell(job, len(line(1)), None) == len(line(1) + line(2)), "nobody listens, but the place moves on"
