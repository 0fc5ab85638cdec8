"""`oel runs`, `clean`, `logs`, `abandon`, `open`, `init`, `cancel`: looking after what lies under a root."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.client.schemas.objects import StateType
from prefect.states import Running, Scheduled

from flows.cli.app import call
from flows.recovery.abandoned import NOTE, NotedFlowRun
from flows.services.process import log_path
from oel_core.config.run import load_config
from oel_core.projects.triggers import open_round, outcome_of
from oel_core.runs.folder import LEASE
from oel_core.runs.lease import Lease
from oel_core.runs.processes import process
from oel_core.runs.round_start import RoundStart, write_start
from tasks.tracking.client import tracker_of
from tasks.tracking.registry import registry_of
from tasks.tracking.settings import load_settings
from tests.runs_on_disk import begin_stage, finished_run

Oel = Callable[..., tuple[int, str, str]]


@pytest.fixture
def oel(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Oel:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)

    def run(*arguments: object) -> tuple[int, str, str]:
        code = call([*map(str, arguments), "--root", str(tmp_path)])
        return (code, *capfd.readouterr())

    return run


def rows(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def test_runs_are_listed(oel: Oel, tmp_path: Path) -> None:
    assert oel("runs")[:2] == (0, f"no runs under {tmp_path}: oel run quickstart --root {tmp_path}\n")
    finished_run(tmp_path, "lake", rounds=2)
    (row,) = rows(oel("runs", "--json")[1])
    assert (row["run"], row["status"], row["rounds"], row["of"]) == ("lake", "finished", 2, 2)
    shown = oel("runs")[1]
    assert "lake" in shown
    assert "2 of 2" in shown


def test_cleaning_says_first_and_removes_only_with_yes(oel: Oel, tmp_path: Path) -> None:
    run = finished_run(tmp_path, "lake")
    partial = begin_stage(run, 4, "collect")
    code, out, _ = oel("clean")
    assert (code, "would be freed" in out, partial.exists()) == (0, True, True)
    assert [row["removed"] for row in rows(oel("clean", "lake", "--json")[1])] == [False] * 3
    assert [row["removed"] for row in rows(oel("clean", "lake", "--json", "--yes")[1])] == [True] * 3
    assert not partial.exists()
    assert oel("clean")[1] == "There is nothing to remove.\n"


def test_a_run_at_work_is_left_alone(oel: Oel, tmp_path: Path) -> None:
    run = finished_run(tmp_path, "lake")
    with run.leased("a test"):
        code, out, err = oel("clean", "--yes", "--json")
        assert (code, out, "left alone" in err) == (0, "", True)
        code, _, err = oel("clean", "lake", "--whole", "--yes")
        assert (code, "in use by process" in err) == (2, True)
    assert oel("clean", "--whole", "--yes")[0] == 2
    assert run.path.exists()
    assert oel("clean", "lake", "--whole")[0] == 0
    assert run.path.exists()
    assert oel("clean", "lake", "--whole", "--yes")[0] == 0
    assert not run.path.exists()
    code, _, err = oel("clean", "lake")
    assert (code, "no run 'lake'" in err) == (2, True)


def test_what_was_ever_a_champion_stays(oel: Oel, tmp_path: Path) -> None:
    run = finished_run(tmp_path, "lake")
    for index in (1, 2, 3):
        tracker_of(load_settings(), run).register(
            str(index), run.stage_path(index, "distill") / "checkpoint", f"digest{index}"
        )
    registry = registry_of(load_settings(), run)
    registry.promote(registry.version_of_round(1), id="one", reason="try it")
    registry.promote(registry.version_of_round(3), id="three", reason="try it")
    assert [row["path"] for row in rows(oel("clean", "--json")[1])] == ["round_02/distill/checkpoint"]
    code, _, err = oel("clean", "lake", "--whole", "--yes")
    assert (code, "lake has a champion" in err, run.path.exists()) == (2, True, True)


def test_logs_are_printed_from_their_end_and_harmless(oel: Oel, tmp_path: Path) -> None:
    code, _, err = oel("logs", "lake")
    assert (code, "no log of 'lake'" in err) == (2, True)
    path = log_path(tmp_path, "lake")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"first\nsecond [red]\nthird \x1b[2J \xff\n")
    assert oel("logs", "lake", "--lines", "2")[1].startswith("second [red]\nthird ")
    assert "\x1b" not in oel("logs", "lake")[1]
    assert [row["line"][:6] for row in rows(oel("logs", "lake", "--json")[1])] == ["first", "second", "third "]
    assert oel("logs", "lake", "--lines", "0")[1] == ""


def test_a_followed_log_gives_every_new_line_whole(tmp_path: Path) -> None:
    path = log_path(tmp_path, "lake")
    path.parent.mkdir(parents=True)
    path.write_text("old\n")
    command = [sys.executable, "-m", "flows.cli.app", "logs", "lake", "--follow", "--root", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "old\n"
        with path.open("a") as log:
            log.write("ha")
            log.flush()
            log.write("lf\nnext\n")
        assert [reader.stdout.readline() for _ in range(2)] == ["half\n", "next\n"]
        reader.send_signal(signal.SIGINT)
        assert reader.wait(30) == 0


def test_an_open_round_is_ended_with_an_outcome(oel: Oel, tmp_path: Path) -> None:
    run = finished_run(tmp_path, "lake", rounds=1)
    code, _, err = oel("abandon", "lake", "1")
    assert (code, "round 1" in err, "not open" in err) == (2, True, True)
    write_start(run, 2, RoundStart(parent=1, knowledge=None, trigger="monday"))
    assert open_round(run) == 2
    code, out, _ = oel("abandon", "lake", "2", "--reason", "its inbox [bold] was wrong", "--json")
    assert (code, rows(out)[0]["outcome"]) == (0, "failed")
    ended = outcome_of(run, 2)
    assert ended is not None
    assert (ended.id, ended.detail.endswith(": its inbox [bold] was wrong")) == ("monday", True)
    assert open_round(run) is None
    code, _, err = oel("abandon", "lake", "2")
    assert (code, "over already: failed" in err) == (2, True)


def test_a_round_that_somebody_works_on_is_not_abandoned(oel: Oel, tmp_path: Path) -> None:
    run = finished_run(tmp_path, "lake", rounds=1)
    write_start(run, 2, RoundStart(parent=1, knowledge=None, trigger="monday"))
    with run.leased("a test"):
        code, _, err = oel("abandon", "lake", "2")
    assert (code, "in use by process" in err) == (2, True)
    assert open_round(run) == 2


def test_a_run_is_opened_where_it_can_be_looked_at(oel: Oel, tmp_path: Path) -> None:
    run = finished_run(tmp_path, "lake", rounds=1)
    assert "`oel report lake` writes one" in oel("open", "lake")[2]
    (run.path / "report.html").write_text("<p>")
    assert oel("open", "lake")[:2] == (0, f"{run.path / 'report.html'}\n")
    assert rows(oel("open", "lake", "--json")[1]) == [
        {"run": "lake", "page": "report", "place": str(run.path / "report.html")}
    ]
    assert "no flow run has worked on lake" in oel("open", "lake", "--page", "prefect")[2]
    (run.path / NOTE).write_text(NotedFlowRun(flow_run_id="6b1e").model_dump_json())
    for page in ("prefect", "mlflow"):
        code, _, err = oel("open", "lake", "--page", page)
        assert (code, f"oel up --root {tmp_path}" in err) == (2, True)


def test_a_new_project_has_an_inbox_and_a_configuration_that_can_be_run(oel: Oel, tmp_path: Path) -> None:
    code, out, _ = oel("init", "lake", "--preset", "tiny", "--json")
    (row,) = rows(out)
    assert code == 0
    assert Path(row["inbox"]).is_dir()
    text = Path(row["preset"]).read_text()
    assert text.count("\n#") > 5
    assert load_config(row["preset"]) == load_config("tiny")
    commented = text.replace("# experience:", "experience:").replace("#   inbox:", "  inbox:")
    Path(row["preset"]).write_text(commented.replace("#   min_episodes:", "  min_episodes:"))
    assert load_config(row["preset"]).experience.inbox == row["inbox"]
    assert [(row["kind"], row["status"]) for row in rows(oel("runs", "--json")[1])] == [("project", "new")]
    code, _, err = oel("init", "lake")
    assert (code, "is there already" in err) == (2, True)
    assert oel("init", "../lake")[0] == 2
    assert oel("init", "pond", "--preset", "nosuch")[0] == 2
    assert not (tmp_path / "pond").exists()


@pytest.mark.parametrize(
    "experience",
    [
        "",
        "experience: {min_episodes: 9}\n",
        "experience:\n  min_episodes: 9\n",
        "experience:   # ours\n  min_episodes: 9\n",
    ],
)
def test_a_new_project_that_cannot_play_reads_its_inbox(oel: Oel, tmp_path: Path, experience: str) -> None:
    preset = tmp_path / "mine.yaml"
    preset.write_text(f"environment: {{name: recorded}}\n{experience}rounds: 1\n")
    code, out, _ = oel("init", "shop", "--preset", str(preset), "--json")
    (row,) = rows(out)
    made = load_config(row["preset"])
    assert (code, made.experience.inbox) == (0, row["inbox"])
    assert made.experience.min_episodes == (9 if experience else 64)
    assert made.rounds == 1


class Server:
    """Prefect's client, with three flow runs: one that runs, one that waits, one that a schedule starts later."""

    def __init__(self) -> None:
        self.runs = [
            self.run("1", Running()),
            self.run("2", Scheduled()),
            self.run("3", Scheduled(), auto_scheduled=True),
            self.run("4", Running(), project="pond"),
        ]
        self.states: dict[str, StateType] = {}

    @staticmethod
    def run(id: str, state: Any, *, auto_scheduled: bool = False, project: str = "lake") -> Any:
        parameters = {"project": project}
        return SimpleNamespace(
            id=id, name=project, state=state, auto_scheduled=auto_scheduled, parameters=parameters, deployment_id="d"
        )

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *problem: object) -> None:
        pass

    def read_flow_runs(self, **chosen: object) -> list[Any]:
        return self.runs

    def set_flow_run_state(self, id: str, state: Any, *, force: bool) -> None:
        self.states[id] = state.type


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, oel: Oel) -> Server:
    found = Server()
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    monkeypatch.setattr("prefect.client.orchestration.get_client", lambda **options: found)
    return found


def test_the_flow_runs_of_a_project_are_cancelled_and_no_others(oel: Oel, server: Server) -> None:
    assert [row["state"] for row in rows(oel("cancel", "lake", "--json")[1])] == ["Cancelling", "Cancelled"]
    assert server.states == {"1": StateType.CANCELLING, "2": StateType.CANCELLED}
    assert rows(oel("cancel", "3", "--json")[1])[0]["flow_run"] == "3"


def test_a_run_without_a_flow_run_is_cancelled_by_its_process(oel: Oel, tmp_path: Path) -> None:
    run = finished_run(tmp_path, "lake")
    code, _, err = oel("cancel", "lake")
    assert (code, "nothing works on 'lake'" in err) == (2, True)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as working:
        lease = Lease(id="1", holder=process(working.pid), purpose="learning-loop", since=0.0)
        (run.path / LEASE).write_text(lease.model_dump_json())
        assert rows(oel("cancel", "lake", "--json")[1])[0]["pid"] == working.pid
        assert working.wait(30) == -signal.SIGTERM
    assert oel("cancel", "lake")[0] == 2
