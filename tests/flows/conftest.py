"""A tiny random model that the commands can load."""

from pathlib import Path

import pytest

from tests.fakes import tiny_model_folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_folder(tmp_path_factory.mktemp("model"))
