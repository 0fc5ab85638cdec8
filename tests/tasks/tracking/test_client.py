"""Tracking in a real MLflow database: runs are found again after a kill, no duplicates, failures are marked."""

import contextlib
import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from oel_core import __version__
from oel_core.config.run import OelConfig, parse_config
from oel_core.errors import ConfigError, ExtractionError
from oel_core.rounds.summary import RoundSummary
from oel_core.runs.folder import RunFolder, adopt_config, open_run
from oel_core.runs.processes import user_name
from tasks.report import report
from tasks.tracking import client as tracking
from tasks.tracking.client import LOOP, Tracker, experiment_of, tracked_run, tracker_of
from tasks.tracking.pages import COLUMNS, VIEW
from tasks.tracking.settings import TrackingSettings, load_settings


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> TrackingSettings:
    """One database for all tests here: setting one up takes seconds."""
    return TrackingSettings().resolved(tmp_path_factory.mktemp("tracking"), "run")


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = open_run(tmp_path, "run")
    adopt_config(folder, OelConfig())
    return folder


@pytest.fixture
def tracker(settings: TrackingSettings, run: RunFolder) -> Iterator[Tracker]:
    return Tracker(settings, run)


def client(settings: TrackingSettings) -> MlflowClient:
    return MlflowClient(settings.tracking_uri)


def test_runs_that_start_together_share_a_new_database(tmp_path: Path) -> None:
    settings = TrackingSettings().resolved(tmp_path, "run")
    with ProcessPoolExecutor(3, mp_context=get_context("spawn")) as pool:
        assert len(set(pool.map(experiment_of, [settings] * 3))) == 1


def test_rounds_are_children_of_the_loop(tracker: Tracker, run: RunFolder) -> None:
    child = tracker.client.get_run(tracker.run_id("1"))
    assert child.data.tags["mlflow.parentRunId"] == tracker.run_id(LOOP)
    assert child.info.run_name == "run round 1"
    assert tracked_run(run).runs == {LOOP: tracker.run_id(LOOP), "1": tracker.run_id("1")}


def test_another_process_goes_on_with_the_same_runs(
    tracker: Tracker, settings: TrackingSettings, run: RunFolder
) -> None:
    ids = [tracker.run_id(name) for name in (LOOP, "1")]
    assert [Tracker(settings, run).run_id(name) for name in (LOOP, "1")] == ids


def test_a_kill_between_making_a_run_and_noting_it_makes_no_second_one(
    tracker: Tracker, settings: TrackingSettings, run: RunFolder
) -> None:
    made = tracker.run_id(LOOP)
    key = tracked_run(run).key
    (run.path / "mlflow.json").write_text(json.dumps({"key": key}))
    assert Tracker(settings, run).run_id(LOOP) == made


def test_an_unknown_id_is_replaced(tracker: Tracker, settings: TrackingSettings, run: RunFolder) -> None:
    tracker.run_id(LOOP)
    noted = json.loads((run.path / "mlflow.json").read_text())
    (run.path / "mlflow.json").write_text(json.dumps(noted | {"key": "new", "runs": {LOOP: "0" * 32}}))
    again = Tracker(settings, run).run_id(LOOP)
    assert again != tracker.run_id(LOOP)
    assert client(settings).get_run(again).info.lifecycle_stage == "active"


def test_metrics_are_logged_once_a_step_whatever_is_run_again(
    tracker: Tracker, settings: TrackingSettings, run: RunFolder
) -> None:
    rows = [("train/loss", 1.0 / step, step) for step in range(1, 4)]
    tracker.log_metrics("1", rows[:2])
    tracker.log_metrics("1", rows)
    Tracker(settings, run).log_metrics("1", rows)
    history = client(settings).get_metric_history(tracker.run_id("1"), "train/loss")
    assert [(entry.step, entry.value) for entry in history] == [(1, 1.0), (2, 0.5), (3, 1 / 3)]


def test_the_configuration_is_logged_as_parameters_and_may_grow(tracker: Tracker, settings: TrackingSettings) -> None:
    tracker.log_config(OelConfig())
    tracker.log_config(parse_config({"rounds": 5}, "test"))
    data = client(settings).get_run(tracker.run_id(LOOP)).data
    assert data.params["distill.steps"] == "20"
    assert data.params["rounds"] == "3"
    assert data.tags["oel.now.rounds"] == "5"
    assert "config.yaml" in [file.path for file in client(settings).list_artifacts(tracker.run_id(LOOP))]


def test_very_long_values_do_not_break_tracking(tracker: Tracker, settings: TrackingSettings) -> None:
    tracker.log_config(parse_config({"description": "x" * 9000}, "test"))
    data = client(settings).get_run(tracker.run_id(LOOP)).data
    assert len(data.params["description"]) == tracking.MAX_VALUE


@pytest.mark.parametrize(
    ("raised", "status"), [(None, "FINISHED"), (ExtractionError("no items"), "FAILED"), (KeyboardInterrupt(), "KILLED")]
)
def test_how_a_run_ended_is_marked(
    tracker: Tracker, settings: TrackingSettings, raised: BaseException | None, status: str
) -> None:
    run_id = tracker.run_id("1")
    expected = pytest.raises(type(raised)) if raised is not None else contextlib.nullcontext()
    with expected, tracker.running("1"):
        assert client(settings).get_run(run_id).info.status == "RUNNING"
        if raised is not None:
            raise raised
    found = client(settings).get_run(run_id)
    assert found.info.status == status
    assert found.data.tags.get("oel.error") == ("ExtractionError: no items" if status == "FAILED" else None)


def test_checkpoints_become_versions_and_the_newest_is_the_candidate(
    tracker: Tracker, settings: TrackingSettings, tmp_path: Path
) -> None:
    model = str(settings.registered_model)
    for name, digest in [("1", "aaaa"), ("2", "bbbb"), ("1", "aaaa")]:
        (tmp_path / name).mkdir(exist_ok=True)
        tracker.register(name, tmp_path / name, digest)
    candidate = client(settings).get_model_version_by_alias(model, "candidate")
    assert candidate.tags == {"round": "2", "digest": "bbbb", "run": "run"}
    assert candidate.source == (tmp_path / "2").as_uri()
    assert len(client(settings).search_model_versions(f"name = '{model}'")) == 2


def test_a_copied_checkpoint_is_registered_by_its_copy(
    tracker: Tracker, settings: TrackingSettings, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "adapter_config.json").write_text("{}")
    tracker.log_file("9", checkpoint, "checkpoint")
    tracker.register("9", checkpoint, "cccc")
    candidate = client(settings).get_model_version_by_alias(str(settings.registered_model), "candidate")
    assert candidate.source == f"{client(settings).get_run(tracker.run_id('9')).info.artifact_uri}/checkpoint"


def test_settings_are_read_and_refused_with_their_fields(tmp_path: Path) -> None:
    file = tmp_path / "mlflow.yaml"
    file.write_text("experiment: mine\n")
    assert load_settings(file).experiment == "mine"
    file.write_text("experimnt: mine\nartifacts: {transcripts: -1}\n")
    with pytest.raises(ConfigError, match=r"(?s)2 problem.*artifacts\.transcripts.*experimnt"):
        load_settings(file)
    with pytest.raises(ConfigError, match="is not a file"):
        load_settings(tmp_path / "none.yaml")


def test_the_projects_own_file_says_what_the_defaults_say() -> None:
    assert load_settings(Path(__file__).parents[3] / "mlflow.yaml") == TrackingSettings()


def test_a_studys_runs_are_its_children_under_their_own_names(tracker: Tracker) -> None:
    child = tracker.client.get_run(tracker.run_id("seed-1-sft"))
    assert child.info.run_name == "run seed-1-sft"
    assert child.data.tags["mlflow.parentRunId"] == tracker.run_id(LOOP)


def test_parameters_of_a_child_are_logged_once_and_later_changes_become_tags(tracker: Tracker) -> None:
    tracker.log_params("seed-1-sft", {"arm": "sft", "distill.regime": "sft"})
    tracker.log_params("seed-1-sft", {"arm": "sft", "distill.regime": "on_policy"})
    data = tracker.client.get_run(tracker.run_id("seed-1-sft")).data
    assert data.params == {"arm": "sft", "distill.regime": "sft"}
    assert data.tags["oel.now.distill.regime"] == "on_policy"


def test_a_run_says_who_made_it_with_what(tracker: Tracker) -> None:
    for name in (LOOP, "1"):
        tags = tracker.client.get_run(tracker.run_id(name)).data.tags
        assert tags["mlflow.user"] == user_name()
        assert tags["mlflow.source.name"] == f"oel {__version__}"
        assert tags["mlflow.source.type"] == "LOCAL"


def test_the_table_of_runs_opens_with_few_metrics(tracker: Tracker, settings: TrackingSettings) -> None:
    """MLflow 3 shows no metric of its own accord; a view that was shared is a tag of the experiment."""
    tag = f"mlflow.sharedViewState.{VIEW}"
    experiment = experiment_of(settings)
    assert experiment == tracker.experiment
    shown = json.loads(tracker.client.get_experiment(experiment).tags[tag])
    assert shown["selectedColumns"] == shown["columnOrder"] == [f"metrics.`{name}`" for name in COLUMNS]
    assert set(COLUMNS) <= set(RoundSummary.model_fields)
    tracker.client.set_experiment_tag(experiment, tag, "{}")  # as an older version left it
    assert experiment_of(settings) == experiment
    assert json.loads(tracker.client.get_experiment(experiment).tags[tag]) == shown


def test_the_report_makes_the_verdict_the_description(
    tracker: Tracker, settings: TrackingSettings, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.report.note", lambda of, most: f"{of.name}: at most {most}")
    report.fn(run, settings)
    run_id = tracker_of(settings, run).run_id(LOOP)
    assert client(settings).get_run(run_id).data.tags["mlflow.note.content"] == f"run: at most {tracking.MAX_VALUE}"
    assert "report.html" in [file.path for file in client(settings).list_artifacts(run_id)]
