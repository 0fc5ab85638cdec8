"""Names of people found by Presidio, where it is installed; a clear message where it is not."""

import builtins
import json
from pathlib import Path
from typing import Any

import pytest

from flows.cli.app import call
from oel_core.errors import ConfigError
from oel_core.imports.presidio import finder
from oel_core.imports.privacy import Masking
from oel_core.knowledge.hygiene.private import Found
from tests.imports.test_importing import log, logged


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A spaCy model that knows one person and one place."""
    pytest.importorskip("presidio_analyzer")
    spacy = pytest.importorskip("spacy")
    english = spacy.blank("en")
    ruler = english.add_pipe("entity_ruler")
    ruler.add_patterns([{"label": "PERSON", "pattern": "Kim Lee"}, {"label": "GPE", "pattern": "Bremen"}])
    english.to_disk(tmp_path / "model")
    return str(tmp_path / "model")


def test_names_and_places_are_masked_by_kind_and_stay_the_same_word(model: str) -> None:
    text = Masking(b"salt", (), finder(model)).text
    masked = text("Kim Lee lives in Bremen, on 3 May.")
    assert masked.startswith("<person-")
    assert " lives in <place-" in masked
    assert masked.endswith(", on 3 May.")
    assert text("Ask Kim Lee.") == f"Ask {masked.split(' ')[0]}."


def test_names_of_fields_stay_and_long_texts_are_looked_through(model: str) -> None:
    text = Masking(b"salt", (), finder(model)).text
    assert list(json.loads(text('{"Bremen": "Kim Lee"}'))) == ["Bremen"]
    assert "Kim Lee" not in text("x " * 60_000 + "Kim Lee " * 3)


def test_a_model_that_is_not_installed_is_not_downloaded(model: str) -> None:
    with pytest.raises(ConfigError, match="python -m spacy download no_such_model"):
        finder("no_such_model")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        finder(str(Path(model).parent))


def test_what_the_command_writes_has_no_names(model: str, tmp_path: Path) -> None:
    source = log(tmp_path / "log.jsonl", logged("a", "I am Kim Lee", "Hello Kim Lee"))
    command = ["import", "openai-chat", str(source), "--into", str(tmp_path / "in"), "--env", "shop", "--pii", model]
    assert call(command) == 0
    (file,) = (tmp_path / "in").glob("*.jsonl")
    assert "Kim" not in file.read_text()


def test_without_presidio_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    real = builtins.__import__

    def absent(name: str, *more: Any, **named: Any) -> Any:
        if name.startswith("presidio_analyzer"):
            raise ModuleNotFoundError("No module named 'presidio_analyzer'")
        return real(name, *more, **named)

    monkeypatch.setattr(builtins, "__import__", absent)
    source = log(tmp_path / "log.jsonl", logged("a", "1", "2"))
    into = tmp_path / "in"
    assert call(["import", "openai-chat", str(source), "--into", str(into), "--env", "shop", "--pii", "m"]) == 2
    assert "pip install 'oel[pii]'" in capfd.readouterr().err
    assert not into.exists()


def test_a_finder_is_asked_about_texts_only() -> None:
    asked = list[str]()

    def find(text: str) -> list[Found]:
        asked.append(text)
        return []

    Masking(b"salt", (), find).text('{"field": "value"}')
    assert asked == ["field: value"]
