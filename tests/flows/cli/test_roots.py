"""`--root`: folders everywhere, the address of a store where the command can use one."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.cli.roots import STORED
from oel_core.runs.folder import open_run
from oel_core.runs.stored.objects import object_store
from oel_core.runs.stored.working_copy import working_copy
from tests.runs_on_disk import finished_run

Oel = Callable[..., tuple[int, str, str]]


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("OEL_CACHE", str(tmp_path))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    return f"memory://{tmp_path.name}/runs"


@pytest.fixture
def finished(url: str) -> str:
    """A finished run `lake` in a store."""
    root = working_copy(url)
    with open_run(root, "lake").leased("test"):
        finished_run(root, "lake")
    return url


def test_commands_show_and_clean_a_run_in_a_store(oel: Oel, finished: str) -> None:
    code, out, _ = oel("runs", "--json", "--root", finished)
    (row,) = map(json.loads, out.splitlines())
    assert (code, row["run"], row["status"], row["rounds"]) == (0, "lake", "finished", 3)
    store = object_store(finished)
    weights = "round_01/distill/checkpoint/model.safetensors"
    assert weights in store.entries("lake")
    assert oel("clean", "lake", "--yes", "--root", finished)[0] == 0
    assert weights not in store.entries("lake")
    assert oel("clean", "lake", "--whole", "--yes", "--root", finished)[0] == 0
    assert store.entries("lake") == {}
    assert oel("runs", "--json", "--root", finished) == (0, "", "")


@pytest.mark.parametrize(
    "command", ["study quickstart", "up", "trigger next-round", "review lake", "init lake", "serve lake", "status"]
)
def test_other_commands_refuse_a_store(oel: Oel, url: str, tmp_path: Path, command: str) -> None:
    code, _, err = oel(*command.split(), "--root", url)
    assert code == 2
    assert f"needs a folder; {STORED} accept" in re.sub(r"\s+", " ", err)
    assert list(tmp_path.iterdir()) == []


def test_addresses_with_secrets_are_refused_unread(oel: Oel, tmp_path: Path, url: str) -> None:
    code, _, err = oel("runs", "--root", "s3://name:hunter2@bucket/runs")
    assert code == 2
    assert "set credentials in the environment" in err
    assert "hunter2" not in err
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_waits_for_a_person_needs_a_folder(oel: Oel, url: str) -> None:
    code, _, err = oel("run", "tiny", "--set", "review.mode=required", "--root", url)
    assert code == 2
    assert "review.mode is required, but `oel review` needs a folder" in err


def test_a_distillation_over_nodes_needs_a_folder(oel: Oel, url: str) -> None:
    code, _, err = oel("run", "tiny", "--set", "distill.nodes=2", "--root", url)
    assert code == 2
    assert "distill.nodes is 2: the nodes share the folder of the running stage" in err
