"""Real servers, workers and flows: every deployment, promotion, killed and cancelled flow runs, shutdown."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.services.process import runs, started
from oel_core.runs.groups import group_is_running
from oel_core.runs.jsonl import read_jsonl
from oel_core.runs.lease import held
from oel_core.runs.processes import is_alive
from oel_core.types import Trajectory
from tests.e2e.operating import NO_WATCH, SECRET, STEPS, Services, tracked_states, until
from tests.e2e.sweep import leftovers

pytestmark = pytest.mark.services


def test_a_trigger_completes_a_round_and_the_same_id_does_nothing_more(services: Services) -> None:
    project = services.project("tiny")
    assert services.states() == {"prefect": "running", "mlflow": "running", "oel-cpu": "running"}
    command = ("trigger", "next-round", "--set", "project=tiny", "--id", "first", "--wait")
    assert "round 1 refused: the gate refuses it: episodes, better" in services.oel(*command, code=3)
    assert "Refused" in services.oel(*command, code=3)
    assert project.run.rounds() == [0, 1]
    assert project.run.has(1, "gate")
    assert project.lease() is None


def test_the_flow_runs_log_says_how_far_it_is(services: Services) -> None:
    """What the Prefect UI shows under Logs of the run that a person started."""
    flow_run = services.project("watched").trigger("one")
    services.ended(flow_run)

    def lines() -> set[str]:
        wanted = {"logs": {"flow_run_id": {"any_": [flow_run]}}, "limit": 200}
        return {line["message"] for line in services.api("logs/filter", wanted)}

    until(lambda: "round 1: evaluate, held out" in lines(), "the last stage is in the log")
    assert {"round 0: evaluate, held out", "round 1: play episodes", "round 1: extract", "round 1: distil"} <= lines()


def served_from(services: Services, project: str) -> Path:
    """What the guide hands to `vllm serve`: the place of the champion, as MLflow's command prints it."""
    command = [sys.executable, "-m", "mlflow", "artifacts", "download", "-u", f"models:/oel-{project}@champion"]
    environment = services.environment() | {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{services.mlflow}"}
    return Path(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip())


def test_the_next_round_starts_from_the_champion(services: Services) -> None:
    project = services.project("led")
    services.ended(project.trigger("one"))
    services.oel("promote", "led", "--force", "--reason", "for the test")
    assert served_from(services, "led") == project.run.stage_path(1, "distill") / "checkpoint"
    services.ended(project.trigger("two"))
    services.oel("rollback", "led")
    services.ended(project.trigger("three"))
    starts = [json.loads((project.run.path / f"round_{index:02d}" / "start.json").read_text()) for index in (1, 2, 3)]
    assert [start["parent"] for start in starts] == [0, 1, 0]
    rows = [json.loads(line) for line in services.oel("history", "led", "--json").splitlines()]
    assert [(row["action"], row["champion_round"]) for row in rows if row["kind"] == "move"] == [
        ("promote", 1),
        ("rollback", 0),
    ]
    assert [(row["round"], row["gate"]) for row in rows if row["kind"] == "round"] == [
        (0, None),
        (1, "refuse"),
        (2, "refuse"),
        (3, "refuse"),
    ]


def test_collected_episodes_feed_a_round(services: Services) -> None:
    """`collect-only` fills the inbox once for each trigger; too few wait, enough make a round."""
    project = services.project("fed")
    asked = {"project": "fed", "inbox": "fed-inbox", "episodes": 5, "trigger": "c1"}
    assert services.ended(services.start("collect-only", asked))["type"] == "COMPLETED"
    assert services.ended(services.start("collect-only", asked))["type"] == "COMPLETED"
    assert services.ended(services.start("collect-only", {**asked, "trigger": "c2"}))["type"] == "COMPLETED"
    files = sorted((services.root / "fed-inbox").iterdir())
    episodes = [episode for file in files for episode in read_jsonl(file, Trajectory)]
    assert len(files) == 2
    assert len({episode.seed for episode in episodes}) == len({episode.id for episode in episodes}) == 10
    inbox = f"experience.inbox={services.root / 'fed-inbox'}"
    services.ended(project.trigger("too-few", inbox, "experience.min_episodes=11"))
    assert project.outcome("too-few") == "waiting"
    services.ended(project.trigger("enough", inbox, "experience.min_episodes=10"))
    assert project.outcome("enough") == "refused"
    used = {row.seed for row in read_jsonl(project.run.stage_path(1, "collect") / "trajectories.jsonl", Trajectory)}
    assert used
    assert used <= {episode.seed for episode in episodes}


def test_evaluate_model_measures_and_shows_it(services: Services) -> None:
    asked = {"project": "tiny", "model": "champion", "suite": "games", "episodes": 4}
    assert services.ended(services.start("evaluate-model", asked))["type"] == "COMPLETED"
    found = services.api("artifacts/filter", {"artifacts": {"key": {"any_": ["evaluate-games"]}}})
    assert found[0]["description"].endswith("of 4 episodes")
    assert services.ended(services.start("evaluate-model", {**asked, "model": "previous"}))["type"] == "FAILED"


def test_a_round_survives_sigkill_of_worker_and_both_servers(services: Services) -> None:
    """The flow run is alone for a while, waits for its server, and completes."""
    project = services.project("through")
    flow_run = project.in_the_middle("one", 1)
    for name in ("oel-cpu", "prefect", "mlflow"):
        os.kill(services.service(name).process.pid, signal.SIGKILL)
    until(lambda: not any(runs(one) for one in started(services.root)), "all are dead")
    assert services.states() == {"prefect": "dead", "mlflow": "dead", "oel-cpu": "dead"}
    assert project.outcome("one") == "begun"
    assert services.up().count("restarting, it had died") == 3
    until(lambda: project.outcome("one") == "refused", "the round is over")
    assert services.ended(flow_run)["name"] == "Refused"
    assert services.open_runs() == []


def test_a_killed_round_is_reported_and_gone_on_with(services: Services) -> None:
    """SIGKILL of the trainer and everything else of the worker, in mid-round."""
    project = services.project("killed")
    flow_run = project.in_the_middle("one", 1)
    worker = services.service("oel-cpu")
    os.killpg(worker.process.pid, signal.SIGKILL)
    until(lambda: not group_is_running(worker.process.pid), "the worker and its flow run are dead")
    left = project.lease()
    assert left is not None
    assert is_alive(left.holder) is False
    assert "marked as crashed" in services.up()
    assert services.open_runs() == []
    assert services.state(flow_run)["type"] == "CRASHED"
    assert tracked_states(services, "killed") == {
        "killed": "KILLED",
        "killed round 0": "FINISHED",
        "killed round 1": "KILLED",
    }
    collected = (project.run.path / "round_01" / "collect" / "manifest.json").read_bytes()
    services.ended(project.trigger("another", f"distill.steps={STEPS}"))
    assert project.outcome("another") == "refused"
    assert (project.run.path / "round_01" / "collect" / "manifest.json").read_bytes() == collected
    assert project.run.rounds() == [0, 1]
    assert set(tracked_states(services, "killed").values()) == {"FINISHED"}


@pytest.mark.parametrize("by", ["page", "command"])
def test_cancelling_ends_everything_within_ten_seconds(services: Services, by: str) -> None:
    project = services.project(f"cancelled_by_{by}")
    flow_run = project.in_the_middle("one", 1, NO_WATCH, steps=60)
    trainer = project.trainer().holder
    if by == "page":
        services.api(f"flow_runs/{flow_run}/set_state", {"state": {"type": "CANCELLING"}})
    else:
        assert "Cancelling" in services.oel("cancel", project.name)
    began = time.monotonic()
    until(lambda: is_alive(trainer) is False, "the flow run's process is gone")
    assert time.monotonic() - began < 10 + 10, "10 s, and as much for a busy machine"
    assert project.lease() is None
    until(lambda: services.state(flow_run)["type"] == "CANCELLED", "it is said to be cancelled")
    until(lambda: services.open_runs() == [], "nothing of it is said to run")


def test_a_second_round_is_refused_or_queued_while_another_worker_has_the_project(services: Services) -> None:
    project = services.project("busy")
    with held(project.run.path / "lease.json", "another worker"):
        refused = services.ended(project.trigger("refused"))
        assert refused["type"] == "FAILED"
        assert "in use by process" in refused["message"]
        project.trigger("queued", when_busy="queue")
        until(lambda: bool(services.open_runs()), "the queued one waits")
        assert project.outcome("queued") == "unknown"
    until(lambda: project.outcome("queued") == "refused", "the queued round runs")
    assert project.outcome("refused") == "unknown"
    assert project.run.rounds() == [0, 1]


def test_down_ends_all_and_no_secret_was_written(services: Services) -> None:
    services.oel("down")
    assert started(services.root) == []
    assert leftovers(services.root) == []
    for path in services.root.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path
