"""kill -9 at any moment: the next call ends with the same knowledge, weights and episodes."""

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from oel_core.config.run import OelConfig, dump_config
from oel_core.runs.folder import RunFolder
from tests.e2e.loop import in_own_group, outcome, run_stages, short_config
from tests.fakes import tiny_model_folder

pytestmark = pytest.mark.e2e
MOMENTS = int(os.environ.get("OEL_KILLS", "20"))
CLI_MOMENTS = int(os.environ.get("OEL_CLI_KILLS", "3"))
RANDOM_SEED = int(os.environ.get("OEL_KILL_SEED", "0"))


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> OelConfig:
    return short_config(tiny_model_folder(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, config: OelConfig) -> tuple[dict[str, Any], float]:
    """What an uninterrupted run ends with, and how many seconds it takes once everything is imported."""
    root = tmp_path_factory.mktemp("reference")
    warm = partial(run_stages, root, "warm", config.model_copy(update={"rounds": 1}))
    assert in_own_group(warm, None) == 0  # starts the server of forks, too, which takes longer than a run
    began = time.monotonic()
    assert in_own_group(partial(run_stages, root, "run", config), None) == 0
    return outcome(RunFolder(root / "run")), time.monotonic() - began


def test_every_stage_left_something(reference: tuple[dict[str, Any], float]) -> None:
    found, _ = reference
    assert sum("knowledge_" in name for name in found) == 8
    assert sum(name.endswith("safetensors") for name in found) == 2
    assert sum(name.endswith("jsonl") for name in found) == 2 + 2 + 8


def test_kills_at_random_moments_change_nothing(
    tmp_path: Path, config: OelConfig, reference: tuple[dict[str, Any], float]
) -> None:
    expected, seconds = reference
    draw = random.Random(RANDOM_SEED)
    killed = 0
    for moment in range(MOMENTS):
        work = partial(run_stages, tmp_path, f"run{moment}", config)
        after = draw.uniform(0.02, 0.98) * seconds
        killed += in_own_group(work, after) == -signal.SIGKILL
        assert in_own_group(work, None) == 0
        assert outcome(RunFolder(tmp_path / f"run{moment}")) == expected, f"killed after {after:.3f} s"
    assert killed >= MOMENTS // 2


def test_a_run_that_is_killed_again_and_again_gets_there(
    tmp_path: Path, config: OelConfig, reference: tuple[dict[str, Any], float]
) -> None:
    expected, seconds = reference
    draw = random.Random(RANDOM_SEED + 1)
    work = partial(run_stages, tmp_path, "run", config)
    for _ in range(MOMENTS):
        in_own_group(work, draw.uniform(0.05, 0.4) * seconds)
    assert in_own_group(work, None) == 0
    assert outcome(RunFolder(tmp_path / "run")) == expected


def test_the_command_is_killed_with_its_whole_process_group(tmp_path: Path, config: OelConfig) -> None:
    """The real command, Prefect's temporary server and MLflow included; their runs are gone on with, too."""
    preset = tmp_path / "short.yaml"
    preset.write_text(dump_config(config.model_copy(update={"rounds": 1})))

    def oel(name: str, kill_after: float | None) -> int:
        command = [sys.executable, "-m", "flows.cli.app", "run", str(preset), "--name", name, "--root", str(tmp_path)]
        with (tmp_path / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            return process.wait(kill_after)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return process.wait()

    oel("warm", None)
    began = time.monotonic()
    assert oel("reference", None) == 0, (tmp_path / "reference.log").read_text()
    seconds = time.monotonic() - began
    expected = outcome(RunFolder(tmp_path / "reference"))
    draw = random.Random(RANDOM_SEED + 2)
    for moment in range(CLI_MOMENTS):
        oel(f"run{moment}", draw.uniform(0.2, 0.95) * seconds)
        assert oel(f"run{moment}", None) == 0, (tmp_path / f"run{moment}.log").read_text()
        assert outcome(RunFolder(tmp_path / f"run{moment}")) == expected
    _require_no_running_flows(tmp_path)
    _require_whole_tracking(tmp_path, [f"run{moment}" for moment in range(CLI_MOMENTS)])


def test_an_interrupt_ends_the_command_at_once_and_leaves_nothing_behind(tmp_path: Path, config: OelConfig) -> None:
    preset = tmp_path / "short.yaml"
    preset.write_text(dump_config(config.model_copy(update={"rounds": 1})))
    command = [sys.executable, "-m", "flows.cli.app", "run", str(preset), "--name", "run", "--root", str(tmp_path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "play episodes" in line:
            break
    os.killpg(process.pid, signal.SIGINT)
    began = time.monotonic()
    rest = process.stderr.read()
    assert process.wait(30) == 1
    assert time.monotonic() - began < 20
    assert "Run the same command again" in rest
    assert "Traceback" not in rest
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    _require_cancelled(tmp_path)


def _require_cancelled(root: Path) -> None:
    """What was interrupted counts as cancelled in Prefect, not as crashed."""
    with contextlib.closing(sqlite3.connect(root / ".prefect" / "prefect.db")) as database:
        states = {state for (state,) in database.execute("select distinct state_type from flow_run")}
    assert "CANCELLED" in states
    assert not states & {"RUNNING", "CRASHED"}


def _require_no_running_flows(root: Path) -> None:
    """What a killed process left running in Prefect was marked by the next one."""
    with contextlib.closing(sqlite3.connect(root / ".prefect" / "prefect.db")) as database:
        states = {state for (state,) in database.execute("select distinct state_type from flow_run")}
    assert "RUNNING" not in states
    assert "COMPLETED" in states


def _require_whole_tracking(root: Path, names: list[str]) -> None:
    """One parent and one child a round, all finished, no metric of a step twice."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("oel")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    for name in names:
        own = {run.info.run_name: run for run in runs if str(run.info.run_name).startswith(name)}
        assert sorted(own) == [name, f"{name} round 0", f"{name} round 1"]
        assert {run.info.status for run in own.values()} == {"FINISHED"}
        history = client.get_metric_history(own[f"{name} round 1"].info.run_id, "train/loss")
        assert [entry.step for entry in history] == [1, 2, 3]
