"""Distillation over two nodes of one machine: the loss and weights of one process; a killed rank or node ends both."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import torch

from oel_core.distillation.distributed.launch import FOLDER
from oel_core.distillation.training.run import distill
from oel_core.distillation.training.step_records import StepRecord, read_steps
from oel_core.errors import DistillationError
from oel_core.runs.guardian import free_port
from tests.distillation.builders import arguments
from tests.fakes import tiny_model_folder

pytestmark = [pytest.mark.scale, pytest.mark.numeric]

KINDS = {
    "full": {},
    "lora": {"lora": {"r": 4, "alpha": 8}},
    "full, fsdp2": {"sharding": "fsdp2"},
    "lora, fsdp2": {"sharding": "fsdp2", "lora": {"r": 4, "alpha": 8}},
}
REL = 84 * torch.finfo(torch.float32).eps
"""1e-5. A loss is a mean of some hundred terms after a forward of two layers, both orders of which differ by a few eps;
the learning rate is so small that the weights' differences do not grow in 4 steps."""
SLOW = {"steps": 4, "samples": 7, "learning_rate": 1e-5, "checkpoint_every": 1}
KILLED = SLOW | {"steps": 200}
"""Steps that outlast the launcher's look at the log by far: the rank is alive when step 2 is reported."""
LONG = SLOW | {"steps": 400}


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_folder(tmp_path_factory.mktemp("model"))


def over_nodes(start: Path, run: Path, **settings: object) -> dict[str, object]:
    """Arguments of a distillation over two nodes, in the folder where `oel join` looks for it."""
    meeting = {"nodes": 2, "rendezvous": f"127.0.0.1:{free_port()}", "nodes_wait_s": 300.0}
    return arguments(start, run / "round_01" / ".distill.partial", **(meeting | settings))


@contextmanager
def joined(run: Path) -> Iterator[subprocess.Popen[str]]:
    """A second node: `oel join`, as on another machine."""
    command = [sys.executable, "-m", "flows.cli.app", "join", run.name, "--root", str(run.parent), "--wait", "600"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def lines_until(process: subprocess.Popen[str], word: str) -> str:
    """What the process said, up to a line with this word."""
    said = []
    stream = process.stdout or process.stderr
    assert stream is not None
    for line in stream:
        said.append(line)
        if word in line:
            return "".join(said)
    raise AssertionError(f"ended without '{word}': {''.join(said)}")


def weights(workdir: Path) -> bytes:
    (path,) = (workdir / "checkpoint").glob("*.safetensors")
    return path.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_two_nodes_give_the_loss_of_one_process(start: Path, tmp_path: Path, kind: str) -> None:
    alone = {name: value for name, value in KINDS[kind].items() if name != "sharding"}
    distill(**arguments(start, tmp_path / "one", **SLOW, **alone))
    with joined(tmp_path / "lake") as node:
        given = over_nodes(start, tmp_path / "lake", **SLOW, **KINDS[kind])
        distill(**given)
        assert "joins at 127.0.0.1:" in lines_until(node, "done")
    one, two = (read_steps(folder / "steps.jsonl") for folder in (tmp_path / "one", given["workdir"]))
    assert [step.loss for step in two] == pytest.approx([step.loss for step in one], rel=REL, abs=0)
    assert [step.grad_norm for step in two] == pytest.approx([step.grad_norm for step in one], rel=REL, abs=0)
    assert [step.draws for step in two] == [step.draws for step in one]
    assert not (given["workdir"] / FOLDER).exists()


def test_a_killed_rank_ends_both_nodes_and_resuming_gives_the_same_bytes(start: Path, tmp_path: Path) -> None:
    with joined(tmp_path / "lake"), joined(tmp_path / "other"):
        whole = over_nodes(start, tmp_path / "other", **KILLED)
        distill(**whole)
        given = over_nodes(start, tmp_path / "lake", **KILLED)
        with pytest.raises(DistillationError, match=r"rank 1 on node 1 \(.+\) .+ killed by SIGKILL"):
            distill(**given, on_step=at_step(2, lambda: kill("distillation.training.run", "RANK", "1", given)))
        assert list((given["workdir"] / "resume").glob("step_*"))
        distill(**given)
    assert weights(given["workdir"]) == weights(whole["workdir"])


@pytest.mark.parametrize("node", [0, 1])
def test_a_killed_launcher_ends_both_nodes(start: Path, tmp_path: Path, node: int) -> None:
    message = "the launcher of the distillation on .+ was killed by signal 9" if node == 0 else r"node 1 \(.+\) is lost"
    with joined(tmp_path / "lake") as other:
        given = over_nodes(start, tmp_path / "lake", **LONG)
        with pytest.raises(DistillationError, match=message):
            distill(**given, on_step=at_step(2, lambda: kill_launcher(given, node)))
        said = lines_until(other, "failed")
        assert ("node 0 (" in said and "is lost" in said) if node == 0 else "was killed by signal 9" in said
        assert not processes_of(given)


def test_a_node_that_never_comes(start: Path, tmp_path: Path) -> None:
    given = over_nodes(start, tmp_path / "lake", **SLOW, nodes_wait_s=2.0)
    with pytest.raises(DistillationError, match=f"1 of 2 nodes came to {given['config'].rendezvous} within 2 s"):
        distill(**given)


def at_step(step: int, act: Callable[[], None]) -> Callable[[StepRecord], None]:
    def on_step(record: StepRecord) -> None:
        if record.step == step:
            act()

    return on_step


def processes_of(given: dict[str, object]) -> list[psutil.Process]:
    """Nodes and ranks of a distillation: their commands name its folder."""
    folder = str(Path(str(given["workdir"])) / FOLDER)
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if folder in process.cmdline():
                found.append(process)
    return found


def kill(module: str, name: str, value: str, given: dict[str, object]) -> None:
    """Kills the process that runs a module with this environment variable."""
    (found,) = (
        process
        for process in processes_of(given)
        if any(module in word for word in process.cmdline()) and process.environ().get(name) == value
    )
    found.send_signal(signal.SIGKILL)


def kill_launcher(given: dict[str, object], node: int) -> None:
    """Kills a node's agent; that of node 0 has the same folder as its own."""
    agents = [
        process for process in processes_of(given) if "oel_core.distillation.distributed.node" in process.cmdline()[:3]
    ]
    (found,) = (agent for agent in agents if (agent.cmdline()[-1] == agent.cmdline()[-2]) == (node == 0))
    found.send_signal(signal.SIGKILL)
