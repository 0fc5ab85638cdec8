"""What the starter of several processes makes of their step log."""

from pathlib import Path

import pytest
import torch

from oel_core.config.run import DistillConfig
from oel_core.distillation.distributed import launch as launching
from oel_core.distillation.distributed.launch import _environment, _invite, _report_steps
from oel_core.distillation.training.job import Job
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
    monkeypatch: pytest.MonkeyPatch, threads: int, each: int
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    found = _invite(DistillConfig(processes=4))
    assert (found.processes, found.nodes, found.threads) == (4, 1, each)
    assert _environment(found)["OMP_NUM_THREADS"] == str(each)


def test_processes_of_one_machine_use_loopback_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        monkeypatch.delenv(name, raising=False)
    alone = _invite(DistillConfig(processes=2, rendezvous="10.0.0.1:29400"))
    assert alone.rendezvous == "127.0.0.1:0"
    assert _environment(alone)["GLOO_SOCKET_IFNAME"] == _environment(alone)["NCCL_SOCKET_IFNAME"] == "lo"
    over_nodes = _invite(DistillConfig(nodes=2, rendezvous="10.0.0.1:29400"))
    assert over_nodes.rendezvous == "10.0.0.1:29400"
    assert _environment(over_nodes).get("NCCL_SOCKET_IFNAME") != "lo"


def test_gloo_uses_the_interface_of_the_rendezvous(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching, "interface", lambda address: {"10.0.0.1:29400": "eth1"}.get(address))
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        monkeypatch.delenv(name, raising=False)
    over_nodes = _invite(DistillConfig(nodes=2, rendezvous="10.0.0.1:29400"))
    assert _environment(over_nodes)["GLOO_SOCKET_IFNAME"] == "eth1"
    assert "NCCL_SOCKET_IFNAME" not in _environment(over_nodes)
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "ib0")
    assert _environment(over_nodes)["GLOO_SOCKET_IFNAME"] == "ib0"
    monkeypatch.delenv("GLOO_SOCKET_IFNAME")
    assert "GLOO_SOCKET_IFNAME" not in _environment(_invite(DistillConfig(nodes=2, rendezvous="10.9.9.9:29400")))


def test_every_attempt_has_an_id_of_its_own() -> None:
    assert _invite(DistillConfig()).attempt != _invite(DistillConfig()).attempt
