"""A tiny study through the real command: what is shared is made once, a kill repeats nothing, MLflow has a tree."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from oel_core.config.run import dump_config
from oel_core.runs.folder import RunFolder
from oel_core.runs.manifest import Manifest
from oel_core.study.sharing import shared_stages
from tests.e2e.loop import short_config
from tests.fakes import tiny_model_folder

pytestmark = pytest.mark.slow
ARMS = "own,raw,foreign,teacher_rollouts,step_wise"
"""A random model never passes an episode, so there is nothing for `sft`; see the last test."""


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("preset")
    config = short_config(tiny_model_folder(folder), rounds=1)
    source = config.knowledge.source.model_copy(update={"raw_max_tokens": 1500})
    config = config.model_copy(update={"knowledge": config.knowledge.model_copy(update={"source": source})})
    (folder / "tiny.yaml").write_text(dump_config(config))
    return folder / "tiny.yaml"


def study(root: Path, preset: Path, *more: str, kill_at: int | None = None) -> tuple[int, str]:
    """The command's exit code and what it said; with `kill_at` it is killed once so many stages have finished."""
    command = [sys.executable, "-m", "flows.cli.app", "study", str(preset), "--name", "s", "--root", str(root)]
    with (root / "log").open("wb") as log:
        process = subprocess.Popen([*command, *more], stdout=log, stderr=log, start_new_session=True)
        while kill_at is not None and process.poll() is None:
            if len(stamps(root)) >= kill_at:
                os.killpg(process.pid, signal.SIGKILL)
                break
            time.sleep(0.05)
        code = process.wait(600)
    return code, (root / "log").read_text()


def stamps(root: Path) -> dict[str, float]:
    """Manifest → when its stage was finished.

    Looks at finished stages only: a walk over everything would meet folders of unfinished ones while they are renamed.
    """
    return {
        path.as_posix(): Manifest.model_validate_json(path.read_bytes()).finished_at
        for stage in ("[!.]*", "[!.]*/[!.]*")
        for path in (root / "s" / "runs").glob(f"*/round_*/{stage}/manifest.json")
    }


def test_a_study_is_killed_goes_on_and_shares(tmp_path: Path, preset: Path) -> None:
    arguments = ("--seeds", "2", "--arms", ARMS, "--foreign", "round:1")
    study(tmp_path, preset, *arguments, kill_at=12)
    before = stamps(tmp_path)
    assert len(before) >= 12
    code, said = study(tmp_path, preset, *arguments)
    assert code == 0, said
    after = stamps(tmp_path)
    assert {path: after[path] for path in before} == before
    folder = tmp_path / "s"
    for seed in (0, 1):
        for arm in ("raw", "foreign", "teacher_rollouts", "step_wise"):
            assert "round_01/collect" in shared_stages(RunFolder(folder / "runs" / f"seed-{seed}-{arm}"))
    result = json.loads((folder / "study.json").read_text())
    assert len({(cell["arm"], cell["seed"]) for cell in result["cells"] if cell["part"] == "held_out"}) == 10
    assert "Who writes the responses" in said
    assert str(folder / "study.md") in said
    assert {path.name for path in (folder / "plots").iterdir()} >= {"knowledge.svg", "source.svg", "rounds.svg"}
    _require_tracking(tmp_path)
    code, said = study(tmp_path, preset, *arguments)
    assert code == 0, said
    assert stamps(tmp_path) == after


def _require_tracking(root: Path) -> None:
    """One parent, and one finished child for each run."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("oel")
    assert experiment is not None
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    parent = runs.pop("s")
    assert len(runs) == 2 * 6
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent.info.run_id}
    assert {run.info.status for run in (parent, *runs.values())} == {"FINISHED"}
    assert runs["s seed-0-step_wise"].data.params["knowledge.injection.mode"] == "step_wise"
    assert {"study.md", "study.json", "plots"} <= {file.path for file in client.list_artifacts(parent.info.run_id)}


def test_an_arm_with_nothing_to_learn_from_fails_alone(tmp_path: Path, preset: Path) -> None:
    code, said = study(tmp_path, preset, "--seeds", "1", "--arms", "sft", "--set", "environment.max_turns=1")
    assert code == 1
    assert "distill.regime is sft" in said
    assert "Traceback" not in said
    assert "seed-0-sft" in (tmp_path / "s" / "study.md").read_text()
