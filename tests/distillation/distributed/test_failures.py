"""What is said when a process of a distillation ends."""

import signal
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from oel_core.distillation.distributed.failures import ERROR, LOG, Failure, Kind, RaisedError, of_launcher, of_ranks
from oel_core.errors import ConfigError, DistillationError

ON = "Remove the cause and repeat the command: it resumes from the last checkpoint."


def died(status: int, pid: int = 7) -> ProcessFailure:
    return ProcessFailure(local_rank=0, pid=pid, exitcode=status, error_file="")


def test_an_error_of_a_process_is_raised_as_what_it_was(tmp_path: Path) -> None:
    (tmp_path / ERROR).write_text(RaisedError(error="ConfigError", message="no such thing").model_dump_json())
    found = of_ranks({0: died(1)}, 0, "a", 2, tmp_path)
    assert found.kind == Kind.ERROR
    assert (type(found.as_error()), str(found.as_error())) == (ConfigError, "no such thing")


def test_a_killed_rank_is_named_with_its_node_and_signal(tmp_path: Path) -> None:
    failures = {2: died(1), 3: died(-signal.SIGKILL, 99), 4: died(-signal.SIGTERM)}
    found = of_ranks(failures, 1, "gpu-b", 2, tmp_path)
    assert found.kind == Kind.KILLED
    assert found.message == (
        "rank 3 on node 1 (gpu-b) of the distillation was killed by SIGKILL (process 99; SIGKILL is often the system's "
        f"answer to full memory). {ON}"
    )
    assert isinstance(found.as_error(), DistillationError)


def test_ranks_that_the_agent_ended_are_no_cause(tmp_path: Path) -> None:
    found = of_ranks({0: died(-signal.SIGTERM), 1: died(3, 8)}, 0, "a", 1, tmp_path)
    assert (found.kind, found.message) == (
        Kind.EXIT,
        f"rank 1 of the distillation exited with status 3 (process 8). {ON}",
    )
    assert of_ranks({}, 0, "a", 2, tmp_path).kind == Kind.STOPPED


def test_the_last_lines_of_the_log_are_shown(tmp_path: Path) -> None:
    log = tmp_path / LOG
    log.write_text("".join(f"own {number}\n" for number in range(30)))
    assert of_ranks({0: died(9)}, 0, "a", 1, tmp_path).message.splitlines()[1:] == [
        f"own {number}" for number in range(10, 30)
    ]


@pytest.mark.parametrize(
    ("status", "kind", "what"), [(137, Kind.KILLED, "was killed by signal 9"), (2, Kind.EXIT, "exited with status 2")]
)
def test_a_launcher_that_left_no_report(tmp_path: Path, status: int, kind: Kind, what: str) -> None:
    found = of_launcher(status, "gpu-a", tmp_path)
    assert (found.kind, found.message) == (kind, f"the launcher of the distillation on gpu-a {what}. {ON}")


def test_the_first_cause_outranks_what_follows_from_it() -> None:
    kinds = [Kind.STOPPED, Kind.EXIT, Kind.LOST, Kind.KILLED, Kind.ERROR]
    assert sorted(kinds) == kinds
    assert Failure.model_validate_json(Failure(kind=Kind.LOST, message="x").model_dump_json()).kind == Kind.LOST
