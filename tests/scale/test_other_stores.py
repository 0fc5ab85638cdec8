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

from oel_core.config.run import OelConfig
from oel_core.distillation.distributed.rendezvous import answers
from oel_core.runs.folder import RunFolder
from oel_core.runs.stored.objects import object_store
from tests.e2e.loop import outcome, run_stages, short_config
from tests.e2e.operating import free_ports, until
from tests.fakes import tiny_model_folder
from tests.scale.test_object_store import Machine, environment, manifests, one_thread

pytestmark = pytest.mark.scale
CONTAINER = "experience"
__all__ = ["one_thread"]


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
    found = {"AZURE_STORAGE_CONNECTION_STRING": address, "OMP_NUM_THREADS": environment(port)["OMP_NUM_THREADS"]}
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


class Elsewhere(Machine):
    """A machine that works on runs of another store."""

    def __init__(self, folder: Path, name: str, config: OelConfig, url: str, own: Mapping[str, str]) -> None:
        super().__init__(folder, name, config)
        self.url, self._own = url, own

    def variables(self, port: int) -> dict[str, str]:
        """`own` names the port."""
        return {**self._own, "OEL_CACHE": str(self.cache)}


@needs("adlfs", program="azurite-blob")
def test_azure_gives_what_a_folder_does(tmp_path: Path, configuration: OelConfig, azure: dict[str, str]) -> None:
    here, there = (
        Elsewhere(tmp_path, name, configuration, f"az://{CONTAINER}/runs", azure) for name in ("here", "there")
    )
    for one in (here, there):
        assert one.finish(0) == 0, one.log.read_text()
    run_stages(tmp_path / "folder", "lake", configuration)
    assert outcome(here.run) == outcome(there.run) == outcome(RunFolder(tmp_path / "folder" / "lake"))
    assert manifests(here.run) == manifests(there.run), "the second machine has done nothing again"


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
        own = {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}"}
        here = Elsewhere(tmp_path, "here", configuration, f"gs://{CONTAINER}/runs", own)
        assert here.finish(0) == 1
    assert "cannot keep two machines off one run" in here.log.read_text()
    assert "held" not in here.log.read_text()
