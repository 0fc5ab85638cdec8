"""`oel join` finds the distillations of a run, says why it cannot take part, and ends."""

from pathlib import Path

import pytest

from oel_core.distillation.distributed import join as joining
from oel_core.distillation.distributed.join import join
from oel_core.distillation.distributed.launch import FOLDER
from oel_core.distillation.distributed.process import JOB
from oel_core.distillation.distributed.rendezvous import INVITATION, Invitation, serve, versions
from oel_core.distillation.training.job import Job
from oel_core.errors import ConfigError, DistillationError
from oel_core.runs.guardian import free_port
from tests.distillation.builders import arguments


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(joining, "_POLL_S", 0.05)
    monkeypatch.setattr(joining, "_START_S", 0.2)
    return tmp_path / "lake"


def invite(run: Path, address: str, *, nodes: int = 2, own: str | None = None) -> Path:
    """A job that waits for nodes, as the run's process leaves it."""
    folder = run / "round_01" / ".distill.partial" / FOLDER
    folder.mkdir(parents=True)
    found = Invitation(
        attempt="a1", rendezvous=address, nodes=nodes, processes=1, threads=1, wait_s=9, versions=own or versions()
    )
    (folder / INVITATION).write_text(found.model_dump_json())
    (folder / JOB).write_text(Job(**arguments(run / "model", folder.parent)).model_dump_json())
    return folder


def test_a_run_that_nobody_works_on(run: Path) -> None:
    with pytest.raises(ConfigError, match=r"no process has worked on .+lake for 0.2 s: start the run, or wait longer"):
        join(run, 0.2, pytest.fail)


def test_an_address_where_nothing_answers_is_named_once(run: Path) -> None:
    address, said = f"127.0.0.1:{free_port()}", []
    invite(run, address)
    with pytest.raises(ConfigError, match="no process has worked"):
        join(run, 0.5, said.append)
    assert len(said) == 1
    assert f"waits at {address}, where nothing answers" in said[0]


def test_a_distillation_of_one_machine_is_not_joined(run: Path) -> None:
    invite(run, "127.0.0.1:1", nodes=1)
    with pytest.raises(ConfigError, match="no process has worked"):
        join(run, 0.2, pytest.fail)


def test_other_versions_are_refused(run: Path) -> None:
    store = serve("127.0.0.1:0")
    invite(run, f"127.0.0.1:{store.port}", own="oel 0.0, torch 1.0")
    with pytest.raises(ConfigError, match=r"the run has oel 0\.0, torch 1\.0, this machine oel .+: install the same"):
        join(run, 5, pytest.fail)


def test_a_failure_is_said_and_raised_when_no_process_goes_on(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = serve("127.0.0.1:0")
    invite(run, f"127.0.0.1:{store.port}")
    tried, said = [], []

    def fail(folder: Path, own: Path, invitation: Invitation) -> None:
        tried.append((folder.name, own.is_dir(), invitation.attempt))
        raise DistillationError("rank 3 was killed")

    monkeypatch.setattr(joining, "take_part", fail)
    with pytest.raises(DistillationError, match="rank 3 was killed"):
        join(run, 0.3, said.append)
    assert tried == [(FOLDER, True, "a1")], "an attempt is joined once"
    assert said == [
        f"round_01: joins at 127.0.0.1:{store.port}",
        "round_01: failed. rank 3 was killed",
    ]


def test_after_the_last_distillation_it_ends(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = serve("127.0.0.1:0")
    folder = invite(run, f"127.0.0.1:{store.port}")

    def succeed(*_: object) -> None:
        folder.parent.rename(folder.parent.with_name("distill"))
        (run / "round_01" / "distill" / "manifest.json").touch()
        (run / "config.yaml").write_text("rounds: 1\n")

    monkeypatch.setattr(joining, "take_part", succeed)
    assert join(run, 600, lambda line: None) == 1
