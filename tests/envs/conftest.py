"""Compiled TextWorld games are shared by all tests of a session and never touch the user's own cache."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def game_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("oel-cache")


@pytest.fixture(autouse=True)
def _own_cache(game_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OEL_CACHE", str(game_cache))
