"""Distillation and Ray over two hosts with a network between them, which is cut."""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from oel_core.distillation.training.step_records import read_steps
from oel_core.runs.jsonl import whole_lines
from tests.e2e.operating import until as eventually
from tests.fakes import tiny_model_folder
from tests.scale.on_this_machine import played
from tests.scale.test_distillation_nodes import REL, lines_until, weights
from tests.scale.two_hosts import POSSIBLE, REASON, Host, two_hosts

pytestmark = [pytest.mark.scale, pytest.mark.skipif(not POSSIBLE, reason=REASON)]
PORT = 29400
CUT = 60
"""Steps of a distillation whose cable is pulled after the second."""


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Host, Host]]:
    with two_hosts() as found:
        yield found


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_folder(tmp_path_factory.mktemp("model"))


def environment() -> dict[str, str]:
    unset = {name: value for name, value in os.environ.items() if not name.startswith(("GLOO_", "NCCL_"))}
    return unset | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}


@contextmanager
def running(host: Host, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """A module of Python on a host; its output and errors together."""
    command = host.command(sys.executable, "-m", *words)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment())
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def cluster(hosts: tuple[Host, Host], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a Ray cluster of both hosts, each with room for one worker."""
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed: make test-scale")
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    for name, value in token.items():
        monkeypatch.setenv(name, value)
    address = f"{hosts[0].address}:{PORT + 1}"
    folder = tempfile.mkdtemp(prefix="ray")  # paths of sockets are short
    head = ["--head", "--port", str(PORT + 1), "--include-dashboard", "false", "--temp-dir", folder]
    with ExitStack() as stack:
        for host, words in zip(hosts, (head, ["--address", address]), strict=True):
            own = ["--node-ip-address", host.address, "--num-cpus", "1", "--object-store-memory", str(100 * 2**20)]
            process = stack.enter_context(running(host, "ray.scripts.scripts", "start", "--block", *words, *own))
            lines_until(process, "Ray runtime started")
        yield address
    shutil.rmtree(folder, ignore_errors=True)


def workdir(run: Path) -> Path:
    """Where `oel join` looks for the distillation of a run."""
    return run / "round_01" / ".distill.partial"


def distilling(start: Path, run: Path, steps: int, host: Host | None = None) -> list[str]:
    """Words of a distillation: in one process, or with a second node that comes to the host."""
    nodes, address = ("1", "127.0.0.1:29400") if host is None else ("2", f"{host.address}:{PORT}")
    return ["tests.scale.distilling", str(start), str(workdir(run)), str(steps), nodes, address]


def joining(run: Path) -> list[str]:
    return ["flows.cli.app", "join", run.name, "--root", str(run.parent), "--wait", "600"]


def test_the_losses_are_those_of_one_process(hosts: tuple[Host, Host], start: Path, tmp_path: Path) -> None:
    first, second = hosts
    with running(first, *distilling(start, tmp_path / "one", 4)) as alone:
        lines_until(alone, "step 4")
        assert alone.wait() == 0
    with running(second, *joining(tmp_path / "lake")) as other:
        with running(first, *distilling(start, tmp_path / "lake", 4, first)) as run:
            lines_until(run, "step 4")
            assert run.wait() == 0
        lines_until(other, "done")
    one, two = (read_steps(workdir(tmp_path / name) / "steps.jsonl") for name in ("one", "lake"))
    assert [step.loss for step in two] == pytest.approx([step.loss for step in one], rel=REL, abs=0)


def test_a_cut_cable_ends_both_and_resuming_gives_the_same_bytes(
    hosts: tuple[Host, Host], start: Path, tmp_path: Path
) -> None:
    first, second = hosts
    with (
        running(second, *joining(tmp_path / "whole")),
        running(first, *distilling(start, tmp_path / "whole", CUT, first)) as run,
    ):
        lines_until(run, f"step {CUT}")
        assert run.wait() == 0
    with running(second, *joining(tmp_path / "cut")) as other:
        with running(first, *distilling(start, tmp_path / "cut", CUT, first)) as run:
            lines_until(run, "step 2")
            second.plug("down")
            try:
                said = lines_until(run, "is lost")
                assert run.wait() == 1
                assert "node 1" in said
                lines_until(other, "failed")
            finally:
                second.plug("up")
        with running(first, *distilling(start, tmp_path / "cut", CUT, first)) as run:
            lines_until(run, f"step {CUT}")
            assert run.wait() == 0
    assert weights(workdir(tmp_path / "cut")) == weights(workdir(tmp_path / "whole"))


@pytest.mark.parametrize("cut", [False, True], ids=["connected", "cut"])
def test_episodes_of_two_hosts_are_those_of_one_process(
    hosts: tuple[Host, Host], cluster: str, tmp_path: Path, cut: bool
) -> None:
    """With the cable pulled, the batches of the other host are played again here."""
    one, two = tmp_path / "one", tmp_path / "two"
    with playing(hosts[0], one, "local") as process:
        assert process.wait() == 0
    with playing(hosts[0], two, "ray", cluster, "2") as process:
        if cut:
            eventually(lambda: len(lines(two)) >= 4, "the first episodes are played")
            hosts[1].plug("down")
        try:
            assert process.wait() == 0, process.stdout and process.stdout.read()
        finally:
            hosts[1].plug("up")
    assert len(played(one)) == 16
    assert played(two) == played(one)


def playing(host: Host, folder: Path, *words: str) -> AbstractContextManager["subprocess.Popen[str]"]:
    folder.mkdir()
    return running(host, "tests.scale.on_this_machine", str(folder), *words)


def lines(folder: Path) -> list[bytes]:
    path = folder / "episodes.jsonl"
    return list(whole_lines(path)) if path.exists() else []
