"""What docs/deployment.md tells those who have an agent works as it is written."""

import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from oel_core.config.run import load_config
from oel_core.gate.sessions import with_deployment
from oel_core.rounds.round import Round
from oel_core.runs.folder import RunFolder, adopt_config, open_run, stage_key
from oel_core.runs.guardian import free_port
from oel_core.runs.round_start import RoundStart, write_start
from oel_core.serving.recording.journal import JOURNAL
from oel_core.stages.gate import verdict_against
from tasks.tracking.client import tracker_of
from tasks.tracking.registry import registry_of
from tasks.tracking.settings import TrackingSettings
from tests.documents import Block, blocks, commands
from tests.serving.process import ServeProcess, start, wait_until_served
from tests.serving.running import episodes_in, eventually
from tests.stages.test_gate import measure

DOCUMENT = Path(__file__).parents[2] / "docs" / "deployment.md"
OEL = [sys.executable, "-m", "flows.cli.app"]
SHOP = DOCUMENT.parents[1] / "examples" / "deployment"


def documented(kind: str, having: str) -> Block:
    """The one block of that kind with this text."""
    (found,) = (one for one in blocks(DOCUMENT) if one.kind == kind and having in one.text)
    return found


@pytest.mark.slow
def test_a_project_is_served_and_asked(tmp_path: Path) -> None:
    shell, client = documented("sh", "oel init shop"), documented("python", "Any boots left?")
    said = documented("text", "Address")
    init, serve = (shlex.split(command)[1:] for command in commands(shell))
    (tmp_path / "examples").symlink_to(SHOP.parent)
    port = str(free_port())
    made = start([*OEL, *init], tmp_path)
    made.communicate()
    assert made.returncode == 0
    process = start([*OEL, *serve, "--port", port], tmp_path)
    gateway = wait_until_served(process, tmp_path, tmp_path / "runs" / "shop" / ".serve-token")
    told = "".join(gateway.said).replace(port, "8010").replace(str(tmp_path), "/srv/oel")
    assert told.split() == said.text.split()
    script = client.text.replace("8010", port)
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert gateway.stop() == 0
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("shop-base-")
    journal = sqlite3.connect(tmp_path / "runs" / "shop" / "inbox" / JOURNAL)
    ((record,),) = journal.execute("select record from text").fetchall()
    assert json.loads(record)["messages"][1]["content"] == "Any boots left?"
    ((given,),) = journal.execute("select record from feedback").fetchall()
    assert json.loads(given)["feedback"]["correction"] == "Two pairs are left."


def planted(root: Path) -> RunFolder:
    """A project with the document's settings, and a round whose candidate lacks nothing but sessions."""
    settings = yaml.safe_load(documented("yaml", "deployment: {use: canary}").text)
    wanted = [f"gate.deployment.use={settings['gate']['deployment']['use']}", "experience.inbox=runs/shop/inbox"]
    (root / "examples").symlink_to(SHOP.parent)
    run, config = open_run(root / "runs", "shop"), load_config(str(SHOP / "seed.yaml"), wanted)
    adopt_config(run, config)
    (run.path / "inbox").mkdir()
    write_start(run, 1, RoundStart(parent=0, knowledge=None, trigger="t1"))

    def weights(folder: Path) -> dict[str, float]:
        shutil.copytree(SHOP / "model", folder / "checkpoint")
        told = json.loads((folder / "checkpoint" / "config.json").read_text())
        (folder / "checkpoint" / "config.json").write_text(json.dumps({**told, "round": 1}))
        return {}

    run.perform(stage_key(config, 1, "distill", ["seed"], {}), weights)
    for part, passed in (("start", 40), ("held_out", 90)):
        measure(run, 1, part, passed)
    tracker_of(TrackingSettings(), run).register("1", run.stage_path(1, "distill") / "checkpoint", "digest")
    registry, round = registry_of(TrackingSettings(), run), Round(config, run, 1)
    registry.tag_verdict(registry.version_of_round(1), with_deployment(round, 0, verdict_against(round, 0)))
    return run


def said_by(root: Path, command: str) -> str:
    words, environment = shlex.split(command)[1:], os.environ | {"PYTHONPATH": str(DOCUMENT.parents[1])}
    done = subprocess.run([*OEL, *words], cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def words(told: str) -> list[str]:
    """Without the lines of tables, and without figures that depend on the order in which conversations end."""
    return re.findall(r"[^\W_]+", re.sub(r"\d+\.\d{4}", "", told))


def visited(gateway: ServeProcess, root: Path, port: str) -> str:
    """What the document's visitors print."""
    script = documented("python", "range(160)").text.replace("8010", port)
    eventually(lambda: gateway.health()["candidate"] is not None)
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_candidate_is_tried_and_promoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run, port = planted(tmp_path), str(free_port())
    (serve,) = (shlex.split(command)[1:] for command in commands(documented("sh", "candidate.share")))
    process = start([*OEL, *serve, "--port", port], tmp_path)
    gateway = wait_until_served(process, tmp_path, run.path / ".serve-token")
    try:
        versions = visited(gateway, tmp_path, port)
        eventually(lambda: len(episodes_in(run.path / "inbox")) == 160)
    finally:
        assert gateway.stop() == 0
    told = "".join(said_by(tmp_path, command) for command in commands(documented("sh", "oel promote shop")))
    assert versions.split() == documented("text", "{'shop-1").text.split()
    assert words(told) == words(documented("text", "promote: the preset's model ->").text)
