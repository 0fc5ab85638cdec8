"""Two processes equal one: losses, weights, resuming; errors are passed on and no process remains."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from oel_core.config.run import ModelConfig
from oel_core.distillation.training.run import distill
from oel_core.distillation.training.step_records import read_steps
from oel_core.errors import DistillationError
from oel_core.runs.groups import group_is_running
from tests.distillation.builders import arguments
from tests.distillation.training.test_run import Abort, abort_at
from tests.fakes import tiny_model, tiny_model_folder
from tests.policies.openai.fake_server import FakeServer, running
from tests.rounding import chain, rounding

pytestmark = [pytest.mark.slow, pytest.mark.numeric]

KINDS = {
    "full": {},
    "lora": {"lora": {"r": 4, "alpha": 8}},
    "fsdp2": {"sharding": "fsdp2"},
    "fsdp2, lora": {"sharding": "fsdp2", "lora": {"r": 4, "alpha": 8}, "retention": {"base_share": 0.25}},
    "fsdp2, unequal micro-batches": {"sharding": "fsdp2", "micro_batch_tokens": 1},  # 3 here, 4 there
    "in context": {"retention": {"in_context_weight": 0.5}},
    "top turns": {"retention": {"top_turns": 0.6}},
    "masks": {"mask": {"truncated": True, "first_tokens": 1}, "max_response_tokens": 60},
    "masks, fsdp2": {"sharding": "fsdp2", "mask": {"truncated": True, "first_tokens": 1}, "max_response_tokens": 60},
    "teacher rollouts": {"regime": "teacher_rollouts"},
    "mixture": {"regime": "mixture"},
}


FEWER = {"samples": 6}
"""One prompt of each step left out."""
LONGEST = 300
"""Tokens of no sequence are more: prompts of some 200 bytes, knowledge and a response of at most 60."""


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return tiny_model_folder(tmp_path_factory.mktemp("model"))


def settings(kind, processes):
    chosen = dict(KINDS[kind])
    if processes == 1:
        chosen.pop("sharding", None)
    return {"steps": 4, "samples": 7, "processes": processes, **chosen}


def weights(folder):
    (path,) = folder.glob("*.safetensors")
    return load_file(path)


def assert_same(one, other, changed):
    """The first step within rounding, and weights that are a hundred times closer than to those of changed data.

    Adam divides each gradient by its own size, so the rounding of one that nearly vanishes becomes as large as a step:
    no bound on the weights follows from rounding alone.
    """
    first, second = (read_steps(folder / "steps.jsonl") for folder in (one, other))
    for ours, theirs in zip(first, second, strict=True):
        assert (ours.draws, ours.response_tokens, ours.tokens) == (theirs.draws, theirs.response_tokens, theirs.tokens)
    ours, theirs = first[0], second[0]
    bound = rounding(max(1.0, abs(ours.kl)), chain(tiny_model(), LONGEST, ours.tokens + LONGEST * len(ours.draws)))
    assert ours.loss == pytest.approx(theirs.loss, rel=0, abs=bound)
    assert ours.grad_norm == pytest.approx(theirs.grad_norm, rel=bound)
    assert distance(one, other) < distance(one, changed) / 100


def distance(one, other):
    """Norm of the difference of all weights."""
    first, second = weights(one / "checkpoint"), weights(other / "checkpoint")
    assert first.keys() == second.keys()
    return sum(float((weight - second[name]).double().square().sum()) for name, weight in first.items()) ** 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_equal_one(start, tmp_path, kind):
    seen = []
    distill(**arguments(start, tmp_path / "one", **settings(kind, 1)))
    distill(**arguments(start, tmp_path / "two", **settings(kind, 2)), on_step=lambda record: seen.append(record.step))
    assert seen == [1, 2, 3, 4]
    distill(**arguments(start, tmp_path / "changed", **(settings(kind, 1) | FEWER)))
    assert_same(tmp_path / "one", tmp_path / "two", tmp_path / "changed")
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["checkpoint", "inputs.json", "steps.jsonl"]
    config = tmp_path / "two" / "checkpoint" / "config.json"
    assert not config.exists() or config.read_bytes() == (tmp_path / "one" / "checkpoint" / "config.json").read_bytes()


@pytest.mark.parametrize("kind", ["lora", "fsdp2, lora"])
def test_one_of_two_processes_asks_a_server_for_all_responses(start, tmp_path, kind):
    asked = {}
    for name, chosen in {
        "one": settings(kind, 1),
        "two": settings(kind, 2),
        "changed": settings(kind, 1) | FEWER,
    }.items():
        given = arguments(start, tmp_path / name, **chosen, rollouts="openai")
        with running(FakeServer(adapters={})) as server:
            served = given["model"].model_dump() | {"max_length": 4096, "openai": {"base_url": server.url}}
            distill(**given | {"model": ModelConfig.model_validate(served)})
        loads = [path for path, _ in server.asked if path.endswith("/load_lora_adapter")]
        asked[name] = (len(loads), sorted((body["seed"], body["prompt"]) for body in server.generations))
    assert_same(tmp_path / "one", tmp_path / "two", tmp_path / "changed")
    assert asked["one"] == asked["two"]
    assert (asked["two"][0], len(asked["two"][1])) == (4, 4 * 7)
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["checkpoint", "inputs.json", "steps.jsonl"]


@pytest.mark.parametrize("kind", ["full", "fsdp2"])
def test_a_resumed_distillation_may_change_its_processes(start, tmp_path, kind):
    """Killed in two processes and gone on with in two, then killed in one and gone on with in two."""
    long = {"steps": 16, "learning_rate": 1e-5, "checkpoint_every": 1}  # so small that rounding does not grow
    distill(**arguments(start, tmp_path / "one", **(settings(kind, 1) | long)))
    distill(**arguments(start, tmp_path / "changed", **(settings(kind, 1) | long | FEWER)))
    for name, first in (("two", 2), ("mixed", 1)):
        with pytest.raises(Abort):
            distill(**arguments(start, tmp_path / name, **(settings(kind, first) | long)), on_step=abort_at(3))
        assert not (tmp_path / name / "checkpoint").exists()
        assert list((tmp_path / name / "resume").glob("step_*"))
        distill(**arguments(start, tmp_path / name, **(settings(kind, 2) | long)))
        assert_same(tmp_path / "one", tmp_path / name, tmp_path / "changed")


def test_an_error_of_a_process_is_the_callers(start, tmp_path):
    broken = tiny_model_folder(tmp_path / "broken")
    tensors = load_file(broken / "model.safetensors")
    name = next(name for name in tensors if "layers.0" in name)
    save_file({**tensors, name: tensors[name] * float("nan")}, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DistillationError, match="distillation stopped at step 1"):
        distill(**arguments(broken, tmp_path / "two", **settings("full", 2)))


SCRIPT = """
import sys
from pathlib import Path
from oel_core.distillation.training.run import distill
from tests.distillation.builders import arguments
given = arguments(Path(sys.argv[1]), Path(sys.argv[2]), steps=400, samples=7, processes=2)
distill(**given, on_step=lambda _: print("on", flush=True))
"""


def test_processes_end_with_the_one_that_started_them(start, tmp_path):
    parent = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(start), str(tmp_path / "work")],
        stdout=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"on\n"
    workers = _working_in(tmp_path / "work")
    assert len(workers) >= 3  # the launcher and two processes
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    until = time.monotonic() + 30
    while _working_in(tmp_path / "work") and time.monotonic() < until:
        time.sleep(0.1)
    assert _working_in(tmp_path / "work") == []
    assert not group_is_running(parent.pid)


def _working_in(folder):
    """Processes whose command names the folder."""
    found = []
    for path in os.listdir("/proc"):
        if path.isdigit() and int(path) != os.getpid():
            try:
                command = Path(f"/proc/{path}/cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(folder / "processes") in command:
                found.append(int(path))
    return found
