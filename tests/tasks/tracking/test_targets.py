"""Finished stages in a real tracking database: rounds of a loop have runs of their own, those of a study share one."""

from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from oel_core import envs
from oel_core.distillation.training import run as training
from oel_core.rounds import round as rounds
from oel_core.rounds.round import Round
from oel_core.runs.folder import RunFolder
from oel_core.study.plan import RUNS, Job, jobs
from oel_core.study.work import Callbacks, perform
from tasks import study
from tasks.tracking.client import LOOP, Tracker
from tasks.tracking.publishing import publish
from tasks.tracking.settings import TrackingSettings
from tasks.tracking.target import of_round
from tests.study.builders import fake_distill, load_scripted, tiny_plan


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """The reference of a study: two rounds with players that are rules."""
    monkeypatch.setitem(envs.REGISTRY, "corridor", "tests.fakes:CorridorEnv")
    monkeypatch.setattr(rounds, "model_digest", lambda path: f"model {path}")
    monkeypatch.setattr(training, "distill", fake_distill)
    monkeypatch.setattr(
        study, "perform", lambda folder, job, watch: perform(folder, job, replace(watch, load=load_scripted))
    )
    return next(job for job in jobs(tiny_plan(), tmp_path) if job.arm == "own")


def files(client: MlflowClient, run_id: str, folder: str = "") -> set[str]:
    found = client.list_artifacts(run_id, folder or None)
    return {path for file in found for path in (files(client, run_id, file.path) if file.is_dir else {file.path})}


def steps(client: MlflowClient, run: Run, metric: str) -> list[int]:
    return [entry.step for entry in client.get_metric_history(run.info.run_id, metric)]


def test_rounds_of_a_study_share_their_arms_run_and_leave_the_parent_alone(own: Job, tmp_path: Path) -> None:
    settings = TrackingSettings().resolved(tmp_path, "s")
    study.study_run.fn(tmp_path, own, "1/1", settings)
    tracker = Tracker(settings, RunFolder(tmp_path))
    parent, run = (tracker.client.get_run(tracker.run_id(name)) for name in (LOOP, own.name))
    assert parent.data.metrics == {}, "arms would mix"
    assert steps(tracker.client, run, "evaluate/held_out/pass_rate") == steps(tracker.client, run, "pass_rate")
    assert steps(tracker.client, run, "pass_rate") == [0, 1, 2]
    assert steps(tracker.client, run, "train/loss") == [1, own.config.distill.steps + 1]
    kept = files(tracker.client, run.info.run_id)
    assert {path.split("/")[0] for path in kept} == {"round_00", "round_01", "round_02"}
    for number in (1, 2):
        assert {f"round_0{number}/knowledge/knowledge_00.md", f"round_0{number}/distill/steps.jsonl"} <= kept
        assert f"round_0{number}/manifests/evaluate/held_out/manifest.json" in kept
        assert any(path.startswith(f"round_0{number}/transcripts/collect/") for path in kept)


def test_rounds_of_a_loop_have_runs_of_their_own_and_rows_in_its_table(own: Job, tmp_path: Path) -> None:
    settings = TrackingSettings().resolved(tmp_path, "run")
    perform(tmp_path, own, Callbacks(load=load_scripted))
    run = RunFolder(tmp_path / RUNS / own.name)
    tracker = Tracker(settings, run)
    for number in own.rounds:
        round = Round(own.config, run, number)
        for stage in ("distill", "evaluate/held_out") if number else ("evaluate/held_out",):
            publish(of_round(settings, round), round, stage, round.stage(stage).manifest())
    loop, second = (tracker.client.get_run(tracker.run_id(name)) for name in (LOOP, "2"))
    assert steps(tracker.client, loop, "pass_rate") == [0, 1, 2]
    assert steps(tracker.client, second, "pass_rate") == [2]
    assert steps(tracker.client, second, "train/loss") == [1]
    assert {"distill/steps.jsonl", "manifests/distill/manifest.json"} <= files(tracker.client, second.info.run_id)
