"""Settings that are known to be unstable are named before a run starts, and only these."""

import json
from pathlib import Path

import pytest

from oel_core.config.run import load_config, preset_names
from oel_core.preflight import caution as module
from oel_core.preflight.caution import find_cautions, vocabulary_here

UNSAFE = (
    "distill.objective=reverse_kl_top_k",
    "distill.temperature=1.0",
    "distill.top_k=64",
    "distill.learning_rate=2e-4",
    "model.lora={r: 32}",
)


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A folder of which only the configuration is read."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name, text in (("config.json", json.dumps({"vocab_size": 151936})), ("tokenizer.json", "{}")):
        (folder / name).write_text(text)
    (folder / "model.safetensors").write_bytes(b"")
    return str(folder)


def said(model: str, *changes: str) -> list[str]:
    return find_cautions(load_config("quickstart", [f"model.path={model}", *UNSAFE, *changes]))


def test_the_setting_that_collapsed_is_named_with_what_to_change(model: str) -> None:
    (text,) = said(model)
    assert "64 of 151936 tokens, at temperature 1 and the rate 0.0002" in text
    assert "Set distill.objective=reverse_kl_tail, or a rate of at most 5e-05" in text


@pytest.mark.parametrize(
    "change",
    [
        "distill.objective=reverse_kl_tail",
        "distill.temperature=0.7",
        "distill.top_k=2000",
        "distill.learning_rate=5e-5",
        "distill.regime=sft",
    ],
)
def test_one_safe_setting_is_enough(model: str, change: str) -> None:
    assert said(model, change) == []


def test_full_fine_tuning_is_fast_at_a_smaller_rate(model: str) -> None:
    assert said(model, "model.lora=null", "distill.learning_rate=2e-5")
    assert said(model, "model.lora=null", "distill.learning_rate=1e-5") == []


def test_a_model_of_unknown_size_counts_as_a_large_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cached_file", lambda hub_id, name: None)
    (text,) = said("nobody/knows")
    assert "64 of an unknown number of tokens" in text
    assert vocabulary_here("Qwen/Qwen3-8B") == 151936


@pytest.mark.parametrize("preset", preset_names())
def test_no_preset_needs_a_warning(preset: str) -> None:
    assert find_cautions(load_config(preset)) == []
