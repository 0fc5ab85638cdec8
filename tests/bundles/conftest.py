"""The corridor, and a tiny model."""

from pathlib import Path

import pytest

from oel_core import envs
from tests.fakes import CORRIDOR, tiny_model_folder


@pytest.fixture(autouse=True)
def _corridor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(envs.REGISTRY, *CORRIDOR)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a few thousand weights."""
    return tiny_model_folder(tmp_path_factory.mktemp("model"))
