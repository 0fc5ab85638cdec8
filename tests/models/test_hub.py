"""The hub is checked once before a client that retries for a minute."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest

from flows.cli.app import call
from oel_core.errors import PolicyError
from oel_core.models import hub
from oel_core.models.loading import load_tokenizer


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses that a hub which never answers was asked at."""
    addresses: list[str] = []

    def head(address: str, timeout: float) -> None:
        addresses.append(address)
        raise OSError("Name or service not known")

    monkeypatch.setattr(hub, "_answered", set())
    monkeypatch.setattr(huggingface_hub, "get_session", lambda: SimpleNamespace(head=head))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return addresses


def no_client(*arguments: Any, **named: Any) -> Any:
    raise AssertionError("the hub's own client was asked")


@pytest.mark.parametrize("model", ["nosuch", "no/such/model", "quickstrat"])
def test_what_is_no_hub_id_asks_no_hub(model: str, asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["eval", model]) == 2
    assert f"no model in {model}" in capsys.readouterr().err
    assert asked == []


def test_a_hub_that_does_not_answer_is_asked_once_and_named_in_one_sentence(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", no_client)
    assert call(["eval", "someone/model"]) == 1
    said = capsys.readouterr().err
    assert "no folder someone/model here, and the model hub does not answer" in said
    assert len(said.strip().splitlines()) == 1
    assert len(asked) == 1


def test_offline_mode_asks_nobody(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(PolicyError, match="does not answer"):
        load_tokenizer("someone/model")
    assert asked == []


def test_a_cached_model_needs_no_hub(asked: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hub, "cached_file", lambda hub_id, name: tmp_path / name)
    hub.require_hub("someone/model")
    assert asked == []


def test_a_hub_that_answered_is_not_asked_again(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[str] = []
    head = lambda address, timeout: answers.append(address)  # noqa: E731
    monkeypatch.setattr(huggingface_hub, "get_session", lambda: SimpleNamespace(head=head))
    for _ in range(3):
        hub.require_hub("someone/model")
    assert len(answers) == 1
