"""The number of threads: choice, record in the run, and warning when a resumed run has another."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from oel_core.config.run import ModelConfig
from oel_core.models import threads
from oel_core.models.threads import choose_threads, free_cores, set_run_threads, worth_threads
from oel_core.runs.arithmetic import RECORD, Arithmetic, arithmetic
from oel_core.runs.folder import RunFolder
from oel_core.runs.manifest import StageKey, read_record
from tests.fakes import tiny_model_folder


@pytest.fixture(autouse=True)
def many_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Sixteen idle cores without a limit; the process has its own number of threads again afterwards."""
    before = torch.get_num_threads()
    monkeypatch.delenv(threads.VARIABLE, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.2, 0.0, 0.0))
    monkeypatch.setattr(threads, "CGROUP", tmp_path / "cgroup")
    yield
    torch.set_num_threads(before)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> ModelConfig:
    """A model with work for any number of threads."""
    monkeypatch.setattr(threads, "worth_threads", lambda path: None)
    return ModelConfig()


@pytest.mark.parametrize(("load", "free"), [(0.0, 16), (0.4, 16), (3.6, 12), (40.0, 1)])
def test_cores_that_others_keep_busy_are_not_free(load: float, free: int) -> None:
    assert free_cores(load) == free


@pytest.mark.parametrize(("limit", "free"), [("400000 100000\n", 4), ("max 100000\n", 16), ("50000 100000\n", 1)])
def test_a_container_has_the_cores_of_its_quota(tmp_path: Path, limit: str, free: int) -> None:
    (tmp_path / "cgroup").mkdir()
    (tmp_path / "cgroup" / "cpu.max").write_text(limit)
    assert free_cores(0.0) == free


def test_the_older_quota_is_read_too(tmp_path: Path) -> None:
    folder = tmp_path / "cgroup" / "cpu"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text("200000\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    assert free_cores(0.0) == 2
    (folder / "cpu.cfs_quota_us").write_text("-1\n")
    assert free_cores(0.0) == 16


def test_a_small_model_gets_one_thread_and_a_large_one_what_is_free(tmp_path: Path, large: ModelConfig) -> None:
    assert choose_threads(large) == 16
    assert worth_threads(str(tiny_model_folder(tmp_path))) == 1


def test_weights_of_some_size_are_worth_some_threads(tmp_path: Path) -> None:
    folder = tiny_model_folder(tmp_path)
    with (folder / "model.safetensors").open("ab") as file:
        file.truncate(4 * 20_000_000)
    assert choose_threads(ModelConfig(path=str(folder))) == 4


def test_the_environment_goes_before_the_setting_and_the_setting_before_what_a_run_kept(
    monkeypatch: pytest.MonkeyPatch, large: ModelConfig
) -> None:
    assert choose_threads(large, kept=5) == 5
    asked = large.model_copy(update={"threads": 3})
    assert choose_threads(asked, kept=5) == 3
    monkeypatch.setenv(threads.VARIABLE, "2,1")
    assert choose_threads(asked, kept=5) == 2


def test_a_run_goes_on_with_the_threads_it_began_with(
    tmp_path: Path, large: ModelConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (13.0, 0.0, 0.0))
    assert set_run_threads(tmp_path, large) == []
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    torch.set_num_threads(1)
    assert set_run_threads(tmp_path, large) == []
    assert torch.get_num_threads() == 3
    seen: list[int] = []
    other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert seen == [3]
    assert not caplog.records


def test_a_run_that_computes_otherwise_than_before_says_so_once_and_how_to_go_on_alike(
    tmp_path: Path, large: ModelConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    set_run_threads(tmp_path, large)
    began = read_record(tmp_path / RECORD, Arithmetic)
    monkeypatch.setenv(threads.VARIABLE, "2")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "OTHER")
    changed = set_run_threads(tmp_path, large)
    assert changed == [f"capability: {began.capability} → OTHER", "threads: 16 → 2"]
    (record,) = caplog.records
    assert "OMP_NUM_THREADS=16" in record.getMessage()
    assert f"ATEN_CPU_CAPABILITY={began.capability.lower()}" in record.getMessage()
    assert read_record(tmp_path / RECORD, Arithmetic) == began  # what the run began with stays the measure


def test_a_manifest_says_how_its_stage_computed(tmp_path: Path) -> None:
    key = StageKey(stage="round_01/select", sections=(), config={}, inputs={})
    manifest = RunFolder(tmp_path).perform(key, lambda folder: {})
    assert manifest.arithmetic == arithmetic()
    assert manifest.arithmetic is not None
    assert manifest.arithmetic.threads == torch.get_num_threads()


def test_nothing_imports_torch_to_say_how_it_computes() -> None:
    script = "import oel_core.runs.folder as a, sys; print(a.arithmetic(), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["None", "False"]


@pytest.mark.skipif(sys.platform != "linux", reason="torch comes with GNU's OpenMP on Linux alone")
@pytest.mark.parametrize(
    ("module", "own"),
    [("flows.cli.app", {}), ("flows.deployed", {}), ("flows.cli.app", {"OMP_WAIT_POLICY": "ACTIVE"})],
    ids=["command", "worker", "asked"],
)
def test_threads_that_wait_sleep_unless_the_environment_says_otherwise(module: str, own: dict[str, str]) -> None:
    environment = {
        name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    }
    done = subprocess.run(
        [sys.executable, "-c", f"import {module}, torch"],
        env={**environment, **own, "OMP_DISPLAY_ENV": "verbose"},
        capture_output=True,
        text=True,
        check=True,
    )
    counts = [line.partition("=")[2].strip() for line in done.stderr.splitlines() if "GOMP_SPINCOUNT" in line]
    if not counts:
        pytest.skip("this build of torch has another OpenMP")
    assert (counts[0] == "'0'") == (not own)
