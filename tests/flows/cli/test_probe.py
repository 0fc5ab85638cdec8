"""`oel probe` loads a model as a run would."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from flows.cli.app import call


@pytest.fixture
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Torch starts with one thread, and has its own number again afterwards."""
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_one_thread")
def test_it_computes_with_the_threads_of_the_configuration(tiny: Path, capfd: pytest.CaptureFixture[str]) -> None:
    settings = ["--set", f"model.path={tiny}", "--set", "model.threads=3", "--set", "play.sampling.max_tokens=2"]
    assert call(["probe", "quickstart", "--json", *settings]) == 0
    assert json.loads(capfd.readouterr().out)["backend"] == "transformers"
    assert torch.get_num_threads() == 3
