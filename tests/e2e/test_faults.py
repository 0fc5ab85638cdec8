"""What breaks around a running round: locked databases, a full disk, two at once, the trainer alone killed.

After each, the round goes on or fails clearly, nothing dead is said to run, and nothing is lost or there twice.
"""

import contextlib
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from flows.services.process import started
from oel_core.runs.processes import is_alive
from tests.e2e.operating import STEPS, Project, Services, until

pytestmark = pytest.mark.services


def require_sound(services: Services, project: Project, rounds: Sequence[int]) -> None:
    """Nothing runs that is dead; the tracked runs are whole, and no metric has a step twice."""
    until(lambda: services.open_runs() == [], "nothing is said to run")
    assert project.lease() is None
    assert project.run.rounds() == list(rounds)
    assert not list(project.run.path.rglob("*.partial"))
    client = MlflowClient(f"sqlite:///{services.root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("oel")
    assert experiment is not None
    found = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    own = [run for name, run in found.items() if name == project.name or str(name).startswith(f"{project.name} ")]
    assert len(own) == 1 + len(rounds)
    assert {run.info.status for run in own} == {"FINISHED"}
    for number in rounds[1:]:
        history = client.get_metric_history(found[f"{project.name} round {number}"].info.run_id, "train/loss")
        steps = [entry.step for entry in history]
        assert steps == sorted(set(steps)), "a step is tracked twice"
    versions = client.search_model_versions(f"name = 'oel-{project.name}'")
    assert sorted(version.tags["round"] for version in versions) == [str(number) for number in rounds[1:]]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Nobody else can write to an SQLite database within the block."""
    connection = sqlite3.connect(path, timeout=30, isolation_level=None)
    try:
        connection.execute("begin exclusive")
        yield
        connection.execute("rollback")
    finally:
        connection.close()


@pytest.mark.parametrize(("name", "seconds"), [(".prefect/prefect.db", 12.0), ("mlflow.db", 26.0)])
def test_a_round_outlasts_a_locked_database(services: Services, name: str, seconds: float) -> None:
    """MLflow waits 20 seconds for a lock and then gives up, so that one is held for longer."""
    project = services.project(f"locked-{'prefect' if 'prefect' in name else 'mlflow'}")
    flow_run = project.in_the_middle("one", 1)
    with locked(services.root / name):
        time.sleep(seconds)
    assert services.ended(flow_run)["name"] == "Refused"
    assert project.outcome("one") == "refused"
    require_sound(services, project, [0, 1])


def test_two_rounds_triggered_at_once_become_one(services: Services) -> None:
    """Both really run at the same time, since the pool takes two; the same id twice is one flow run to begin with."""
    project = services.project("two")
    services.api("work_pools/oel-cpu", {"concurrency_limit": 2}, "PATCH")
    try:
        asked: list[str] = []
        ask = [threading.Thread(target=lambda id=id: asked.append(project.trigger(id))) for id in ("a", "b")]
        for thread in ask:
            thread.start()
        for thread in ask:
            thread.join()
        ends = sorted(services.ended(flow_run)["name"] for flow_run in asked)
    finally:
        services.api("work_pools/oel-cpu", {"concurrency_limit": 1}, "PATCH")
    outcomes = sorted([project.outcome("a"), project.outcome("b")])
    if ends == ["Failed", "Refused"]:
        assert outcomes == ["refused", "unknown"]
        require_sound(services, project, [0, 1])
    else:  # the second came when the first was over
        assert (ends, outcomes) == (["Refused", "Refused"], ["refused", "refused"])
        require_sound(services, project, [0, 1, 2])


def test_the_same_key_twice_is_one_flow_run(services: Services) -> None:
    asked = {"project": "once", "trigger": "t"}
    first, second = (services.start("next-round", asked, key="t") for _ in range(2))
    assert first == second
    services.api(f"flow_runs/{first}/set_state", {"state": {"type": "CANCELLED"}, "force": True})


def test_sigkill_of_the_trainer_alone(services: Services) -> None:
    """The worker lives on and says that the flow run crashed; the same trigger goes on with the round."""
    project = services.project("trainer")
    flow_run = project.in_the_middle("one", 1)
    trainer = project.trainer().holder
    os.kill(trainer.pid, signal.SIGKILL)
    assert services.ended(flow_run)["type"] == "CRASHED"
    assert is_alive(trainer) is False
    assert services.well()
    collected = (project.run.path / "round_01" / "collect" / "manifest.json").read_bytes()
    assert services.ended(project.trigger("one", f"distill.steps={STEPS}"))["name"] == "Refused"
    assert project.outcome("one") == "refused"
    assert (project.run.path / "round_01" / "collect" / "manifest.json").read_bytes() == collected
    require_sound(services, project, [0, 1])


def fill(folder: Path) -> Path:
    """A file that takes all the room there is."""
    path = folder / "filler"
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 2**20)
    with contextlib.suppress(OSError), path.open("ab", buffering=0) as file:
        while file.write(b"\0" * 512):
            pass
    return path


def test_a_full_disk(services: Services) -> None:
    """Full until the round has given up; with room again, the same trigger goes on and finishes it."""
    if not services.disk_can_fill:
        pytest.skip("this test needs a small file system of its own: mounting one takes root and the right to mount")
    project = services.project("full")
    flow_run = project.in_the_middle("one", 1)
    trainer = project.trainer().holder
    collected = (project.run.path / "round_01" / "collect" / "manifest.json").read_bytes()
    filler = fill(services.root)
    try:
        until(lambda: is_alive(trainer) is False, f"the round gives up\n{services.logs()}", 120)
    finally:
        filler.unlink()
    if not services.well():
        services.up()
    assert services.ended(flow_run)["type"] in ("FAILED", "CRASHED")
    assert services.ended(project.trigger("one", f"distill.steps={STEPS}"))["name"] == "Refused"
    assert project.outcome("one") == "refused"
    assert (project.run.path / "round_01" / "collect" / "manifest.json").read_bytes() == collected
    require_sound(services, project, [0, 1])
    for name in (".prefect/prefect.db", "mlflow.db"):
        with contextlib.closing(sqlite3.connect(services.root / name)) as database:
            assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
    assert len(started(services.root)) == 3
