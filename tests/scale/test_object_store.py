"""Runs in an S3 store on moto's real server: what a run on a folder gives, through lost connections and kills.

Commands run in processes of their own with a cache each, as on several machines.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib.util import find_spec
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pytest
import torch

from oel_core.config.run import OelConfig, dump_config, read_config
from oel_core.errors import OelError
from oel_core.rounds.round import Round
from oel_core.runs.folder import RunFolder, adopt_config, open_run
from oel_core.runs.manifest import Manifest, read_record
from oel_core.runs.stored.objects import object_store
from oel_core.runs.stored.working_copy import working_copy
from oel_core.stages.round import run_round
from tests.e2e.loop import LONGEST, outcome, run_stages, short_config
from tests.e2e.operating import free_ports, until
from tests.fakes import tiny_model_folder
from tests.scale.faulty_proxy import FaultyProxy, faulty_proxy

pytestmark = [
    pytest.mark.scale,
    pytest.mark.skipif(
        find_spec("moto") is None or find_spec("s3fs") is None, reason="moto or s3fs is not installed: make test-scale"
    ),
]
BUCKET, SECRET = "experience", "hunter2-do-not-write-me-down"
FORKED = get_context("forkserver")


def work(url: str, preset: Path, log: Path, variables: Mapping[str, str]) -> None:
    """`oel run` without Prefect and MLflow, whose start takes longer than such a run; in a process of its own."""
    os.setsid()
    os.environ |= variables
    with log.open("ab") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    config = read_config(preset)
    run = open_run(working_copy(url), "lake")
    try:
        with run.leased("test"):
            print("held", flush=True)
            adopt_config(run, config)
            for number in range(config.rounds + 1):
                run_round(Round(config, run, number))
    except OelError as error:
        sys.exit(f"{type(error).__name__}: {error}")


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """moto's server with a bucket; the environment that finds it."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (tmp_path_factory.mktemp("moto") / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(port).items():
            patch.setenv(name, value)
        try:
            yield _with_bucket(port, server)
        finally:
            server.kill()
            server.wait()


def _with_bucket(port: int, server: "subprocess.Popen[bytes]") -> int:
    import boto3

    def made() -> bool:
        assert server.poll() is None, "moto's server ended"
        with suppress(Exception):
            boto3.client("s3").create_bucket(Bucket=BUCKET)
            return True
        return False

    until(made, "moto's server answers")
    return port


def environment(port: int) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1",
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture
def proxy(port: int) -> Iterator[FaultyProxy]:
    with faulty_proxy(port) as found:
        yield found


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As many as the commands have."""
    before = torch.get_num_threads()
    torch.set_num_threads(int(environment(0)["OMP_NUM_THREADS"]))
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def configuration(tmp_path_factory: pytest.TempPathFactory) -> OelConfig:
    return short_config(tiny_model_folder(tmp_path_factory.mktemp("model")), rounds=1)


@pytest.fixture(scope="module")
def expected(configuration: OelConfig, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a run on a folder leaves."""
    root = tmp_path_factory.mktemp("folder")
    run_stages(root, "lake", configuration)
    found = outcome(RunFolder(root / "lake"))
    assert sum(name.endswith(".safetensors") for name in found) == 1
    return found


class Machine:
    """A machine with an empty cache that works on runs of one store."""

    def __init__(self, folder: Path, name: str, config: OelConfig) -> None:
        self.cache, self.log, self.preset = folder / name, folder / f"{name}.log", folder / "preset.yaml"
        self.url = f"s3://{BUCKET}/{folder.name}/runs"
        self.preset.write_text(dump_config(config))

    @property
    def run(self) -> RunFolder:
        (found,) = self.cache.glob("stores/*/lake")
        return RunFolder(found)

    def variables(self, port: int) -> dict[str, str]:
        return {**environment(port), "OEL_CACHE": str(self.cache)}

    def start(self, port: int) -> ForkServerProcess:
        """A process that runs the loop; what it prints goes to `log`."""
        FORKED.set_forkserver_preload([__name__, "oel_core.distillation.training.trainer", "oel_core.models.loading"])
        process = FORKED.Process(target=work, args=(self.url, self.preset, self.log, self.variables(port)))
        process.start()
        return process

    def finish(self, port: int) -> int | None:
        """The exit code of such a process."""
        process = self.start(port)
        process.join(LONGEST)
        if process.is_alive():
            kill(process)
            pytest.fail(f"not done after {LONGEST} s")
        return process.exitcode

    def oel(self, port: int, *arguments: str) -> str:
        """What an `oel` command on the store prints."""
        done = subprocess.run(
            [sys.executable, "-m", "flows.cli.app", *arguments, "--root", self.url],
            env={**os.environ, **self.variables(port)},
            capture_output=True,
            text=True,
            timeout=3 * LONGEST,
        )
        with self.log.open("a") as log:
            log.write(f"$ oel {' '.join(arguments)} --root {self.url}\n{done.stdout}{done.stderr}")
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def machine(tmp_path: Path, configuration: OelConfig) -> Callable[[str], Machine]:
    return lambda name: Machine(tmp_path, name, configuration)


def manifests(run: RunFolder) -> dict[str, Manifest]:
    return {
        folder.relative_to(run.path).as_posix(): read_record(folder / "manifest.json", Manifest)
        for folder in run.stages()
    }


def test_creation_is_conditional_on_this_server(port: int) -> None:
    """Otherwise the tests of two machines would show nothing."""
    store = object_store(f"s3://{BUCKET}/conditional")
    for number in range(5):
        barrier, won = Barrier(8), list[int]()

        def create(own: int, number: int = number, barrier: Barrier = barrier, won: list[int] = won) -> None:
            barrier.wait()
            if store.create(str(number), str(own).encode()):
                won.append(own)

        threads = [Thread(target=create, args=(own,)) for own in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.read(str(number)) == str(won[0]).encode()
        assert len(won) == 1


def test_every_fourth_write_is_cut_off(
    port: int, proxy: FaultyProxy, machine: Callable[[str], Machine], expected: dict[str, Any]
) -> None:
    """And the run is as one on a folder; another machine gets it byte for byte."""
    proxy.fault = lambda number, path: "cut" if number % 4 == 0 else "none"
    here, there = machine("here"), machine("there")
    assert here.finish(proxy.port) == 0, here.log.read_text()
    assert len(proxy.puts) > 30
    assert outcome(here.run) == expected
    assert there.finish(port) == 0, there.log.read_text()
    assert manifests(there.run) == manifests(here.run)
    assert outcome(there.run) == expected
    assert SECRET not in here.log.read_text() + "".join(written(here.run.path.parent))


def written(folder: Path) -> Iterator[str]:
    return (path.read_bytes().decode(errors="replace") for path in folder.rglob("*") if path.is_file())


def test_a_kill_in_mid_upload_and_another_machine(
    port: int, proxy: FaultyProxy, machine: Callable[[str], Machine], expected: dict[str, Any]
) -> None:
    here, there = machine("here"), machine("there")
    proxy.fault = lambda number, path: "stop" if path.endswith("model.safetensors") else "none"
    process = here.start(proxy.port)
    until(proxy.stopped.is_set, "weights are being uploaded", LONGEST)
    kill(process)
    left = object_store(here.url).entries("lake")
    assert "round_01/collect/manifest.json" in left
    assert "round_01/distill/manifest.json" not in left
    assert there.finish(port) == 0, there.log.read_text()
    assert outcome(there.run) == expected
    assert manifests(there.run)["round_01/collect"] == manifests(here.run)["round_01/collect"]


def kill(process: ForkServerProcess) -> None:
    """SIGKILL of the process's group."""
    assert process.pid is not None
    os.killpg(process.pid, signal.SIGKILL)
    process.join()


def test_a_lost_connection_ends_with_one_message_and_the_stage_is_not_repeated(
    port: int, proxy: FaultyProxy, machine: Callable[[str], Machine], expected: dict[str, Any]
) -> None:
    here = machine("here")
    proxy.fault = lambda number, path: "cut" if "/round_01/distill/" in path else "none"
    assert here.finish(proxy.port) == 1
    said = here.log.read_text()
    assert said.count("StoreError: ") == 1
    assert "after 6 attempts" in said
    assert "Traceback" not in said
    sealed = read_record(here.run.path / "round_01" / ".distill.partial" / "manifest.json", Manifest)
    assert here.finish(port) == 0, here.log.read_text()
    assert manifests(here.run)["round_01/distill"] == sealed
    assert outcome(here.run) == expected


def test_two_machines_cannot_hold_one_run(port: int, machine: Callable[[str], Machine]) -> None:
    here, there = machine("here"), machine("there")
    process = here.start(port)
    try:
        until(lambda: here.log.exists() and "held" in here.log.read_text(), "the first machine holds the run", LONGEST)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGSTOP)  # silent, but alive
        assert there.finish(port) == 1
        assert "lake is in use by process" in there.log.read_text()
    finally:
        kill(process)


@pytest.mark.timeout(3600)
def test_commands_on_a_store_with_artifacts_in_a_store(
    port: int,
    machine: Callable[[str], Machine],
    configuration: OelConfig,
    expected: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`oel run` with Prefect and MLflow, whose artifacts are in the bucket; a second machine shows it and goes on."""
    here, there = machine("here"), machine("there")
    settings = here.preset.with_name("mlflow.yaml")
    settings.write_text(f"artifact_location: s3://{BUCKET}/artifacts\n")
    monkeypatch.setenv("OEL_MLFLOW", str(settings))
    said = here.oel(port, "run", str(here.preset), "--name", "lake")
    assert f"{here.url}/lake" in said
    assert outcome(here.run) == expected
    copied = object_store(f"s3://{BUCKET}/artifacts").entries("")
    assert any(name.endswith("knowledge_00.md") for name in copied)
    assert any(name.endswith("artifacts/config.yaml") for name in copied)
    (row,) = [json.loads(line) for line in there.oel(port, "runs", "--json").splitlines()]
    assert (row["run"], row["status"], row["rounds"]) == ("lake", "finished", 1)
    assert there.oel(port, "rounds", "lake") == here.oel(port, "rounds", "lake")
    assert Path(there.oel(port, "report", "lake").strip()).read_text().startswith("<!doctype html>")
    assert not list(there.run.path.rglob("*.safetensors"))
    there.oel(port, "run", str(there.preset), "--name", "lake", "--set", "rounds=2")
    run_stages(tmp_path / "folder", "lake", configuration.model_copy(update={"rounds": 2}))
    assert outcome(there.run) == outcome(RunFolder(tmp_path / "folder" / "lake"))
    assert here.oel(port, "rounds", "lake") == there.oel(port, "rounds", "lake")
    assert SECRET not in "".join([*written(here.cache), *written(there.cache)])
