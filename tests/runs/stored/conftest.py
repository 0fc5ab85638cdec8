from collections.abc import Callable
from pathlib import Path

import pytest

from oel_core.runs.stored import objects, replica
from tests.runs.stored.machines import Machine


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A store of this test's own, in memory."""
    return f"memory://{tmp_path.parent.name}-{tmp_path.name}/runs"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "PAUSES_S", (0.0,) * 5)
    monkeypatch.setattr(replica, "FETCH_PAUSE_S", 0.0)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> Callable[[str], Machine]:
    """The machine of a name."""
    return lambda name: Machine(monkeypatch, tmp_path / name, url)
