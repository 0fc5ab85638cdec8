"""Runs in a store with Azure's API (Azurite, Microsoft's emulator), and a store that must be refused: an emulator of
Google's that ignores conditions.

`npm install --global azurite` and `pip install adlfs gcsfs gcp-storage-emulator` install what they need.
"""

import base64
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from oel_core.config.run import OelConfig, dump_config
from oel_core.distillation.distributed.rendezvous import answers
from oel_core.runs.folder import RunFolder
from oel_core.runs.stored.objects import object_store
from tests.e2e.loop import LONGEST, outcome, run_stages, short_config
from tests.e2e.operating import free_ports, until
from tests.fakes import tiny_model_folder
from tests.scale.test_object_store import FORKED, manifests, work

pytestmark = pytest.mark.scale
CONTAINER = "experience"
THREADS = 1


def needs(*packages: str, program: str | None = None) -> pytest.MarkDecorator:
    absent = [name for name in packages if find_spec(name) is None]
    absent += [program] if program is not None and shutil.which(program) is None else []
    return pytest.mark.skipif(bool(absent), reason=f"not installed: {', '.join(absent)}")


@contextmanager
def serving(command: Sequence[str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def azure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The environment that finds a container of the emulator's."""
    from azure.storage.blob import BlobServiceClient

    (port,) = free_ports(1)
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    address = (
        f"BlobEndpoint=http://127.0.0.1:{port}/tests;AccountName=tests;AccountKey={key};DefaultEndpointsProtocol=http"
    )
    found = {"AZURE_STORAGE_CONNECTION_STRING": address, "OMP_NUM_THREADS": str(THREADS)}
    for name, value in {**found, "AZURITE_ACCOUNTS": f"tests:{key}"}.items():
        monkeypatch.setenv(name, value)
    options = ["--silent", "--disableTelemetry", "--skipApiVersionCheck", "--location", str(tmp_path / "azurite")]
    with serving(["azurite-blob", *options, "--blobHost", "127.0.0.1", "--blobPort", str(port)], tmp_path / "log"):

        def made() -> bool:
            with suppress(Exception):
                BlobServiceClient.from_connection_string(address, retry_total=0).create_container(CONTAINER)
                return True
            return False

        until(made, "Azurite answers")
        yield found


@pytest.fixture
def configuration(tmp_path: Path) -> OelConfig:
    return short_config(tiny_model_folder(tmp_path), rounds=1)


def machine(url: str, folder: Path, config: OelConfig, variables: Mapping[str, str]) -> tuple[int | None, str]:
    """Exit code and output of a loop on a machine with an empty cache."""
    folder.mkdir()
    preset, log = folder / "preset.yaml", folder / "log"
    preset.write_text(dump_config(config))
    process = FORKED.Process(target=work, args=(url, preset, log, {**variables, "OEL_CACHE": str(folder)}))
    process.start()
    process.join(LONGEST)
    return process.exitcode, log.read_text()


def run_of(folder: Path) -> RunFolder:
    (found,) = folder.glob("stores/*/lake")
    return RunFolder(found)


@needs("adlfs", program="azurite-blob")
def test_azure_gives_what_a_folder_does(tmp_path: Path, configuration: OelConfig, azure: dict[str, str]) -> None:
    url, before = f"az://{CONTAINER}/runs", torch.get_num_threads()
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        assert machine(url, folder, configuration, azure) == (0, "held\n")
    torch.set_num_threads(THREADS)
    run_stages(tmp_path / "folder", "lake", configuration)
    torch.set_num_threads(before)
    assert outcome(run_of(here)) == outcome(run_of(there)) == outcome(RunFolder(tmp_path / "folder" / "lake"))
    assert manifests(run_of(here)) == manifests(run_of(there)), "the second machine has done nothing again"


@needs("adlfs", program="azurite-blob")
def test_of_eight_that_create_one_object_at_once_one_succeeds(azure: dict[str, str]) -> None:
    url = f"az://{CONTAINER}/race"
    for number in range(5):
        with ThreadPoolExecutor(8) as pool:
            created = pool.map(lambda own: object_store(url).create(f"{number}", b"%d" % own), range(8))  # noqa: B023
            assert sum(created) == 1


@needs("gcsfs", "gcp_storage_emulator")
def test_a_store_that_ignores_conditions_is_refused(tmp_path: Path, configuration: OelConfig) -> None:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "gcp_storage_emulator", "start", "--in-memory", "--default-bucket", CONTAINER]
    with serving([*command, "--host", "127.0.0.1", "--port", str(port)], tmp_path / "log"):
        until(lambda: answers(f"127.0.0.1:{port}"), "the emulator listens")
        variables = {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}"}
        code, said = machine(f"gs://{CONTAINER}/runs", tmp_path / "here", configuration, variables)
    assert code == 1
    assert "cannot keep two machines off one run" in said
    assert "held" not in said
