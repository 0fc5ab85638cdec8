"""Validation of checkpoint folders, and what their digest covers."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import transformers

from oel_core.errors import ArtifactError, PolicyError
from oel_core.models import checkpoints
from oel_core.models.checkpoints import model_digest, resolve_model
from tests.fakes import tiny_model, tiny_model_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_model_folder(tmp_path)


def adapter(folder: Path, base: Path, **changes: object) -> Path:
    """An adapter folder whose weights nobody reads."""
    folder.mkdir()
    values = {"peft_type": "LORA", "base_model_name_or_path": str(base), "r": 4, "target_modules": ["a", "b"]}
    (folder / "adapter_config.json").write_text(json.dumps(values | changes))
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    return folder


def test_a_folder_and_a_hub_id_resolve(folder: Path) -> None:
    assert resolve_model(str(folder)) == folder
    assert resolve_model("Qwen/Qwen3-1.7B") == "Qwen/Qwen3-1.7B"


@pytest.mark.parametrize(
    ("removed", "said"),
    [
        (["config.json"], r"config\.json \(or adapter_config\.json"),
        (["model.safetensors"], r"model\.safetensors"),
        (["tokenizer.json"], r"tokenizer\.json"),
        (
            ["config.json", "model.safetensors", "tokenizer.json"],
            r"config\.json.*; model\.safetensors; tokenizer\.json",
        ),
    ],
)
def test_everything_that_is_missing_is_said(folder: Path, removed: list[str], said: str) -> None:
    for name in removed:
        (folder / name).unlink()
    with pytest.raises(ArtifactError, match=f"not a checkpoint, it lacks: {said}"):
        resolve_model(str(folder))


def test_a_missing_shard_is_named(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model-1-of-2.safetensors").write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"lacks: model-2-of-2\.safetensors$"):
        resolve_model(str(folder))


def test_pickled_weights_are_refused_with_a_way_out(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ArtifactError, match=r"found pytorch_model\.bin: convert it"):
        resolve_model(str(folder))


@pytest.mark.parametrize(
    "path", ["/no/such/folder", "runs/one/round_01", "../x", "~nobody/x", "a b", "", "nosuch", "x" * 5000, "\0"]
)
def test_what_cannot_be_a_hub_id_is_a_missing_folder(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArtifactError):
        resolve_model(path)


def test_a_slip_in_a_models_name_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "my-model").mkdir()
    with pytest.raises(ArtifactError, match=r"did you mean seed-lm.* known by name are seed-lm, "):
        resolve_model("sed-lm")
    with pytest.raises(ArtifactError, match=f"did you mean {tmp_path / 'my-model'}"):
        resolve_model(str(tmp_path / "my-modl"))


def test_a_file_is_no_model(folder: Path) -> None:
    with pytest.raises(ArtifactError, match="is a file"):
        resolve_model(str(folder / "config.json"))


def test_the_embedded_model_without_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "SEED_LM_WEIGHTS", tmp_path)
    with pytest.raises(PolicyError, match="oel seed-lm train"):
        resolve_model("seed-lm")


def test_adapters_need_weights_a_base_and_the_right_kind(folder: Path, tmp_path: Path) -> None:
    assert checkpoints.adapter_base(adapter(tmp_path / "good", folder)) == str(folder)
    (tmp_path / "good" / "adapter_model.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"adapter_model\.safetensors"):
        resolve_model(str(tmp_path / "good"))
    for number, (changes, said) in enumerate(
        [({"base_model_name_or_path": None}, "name the base"), ({"peft_type": "IA3"}, "LORA")]
    ):
        with pytest.raises(ArtifactError, match=said):
            checkpoints.adapter_base(adapter(tmp_path / str(number), folder, **changes))


def test_the_digest_is_of_contents_not_of_places(folder: Path, tmp_path: Path) -> None:
    digest = model_digest(str(folder))
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "trainer_state.json").write_text("{}")
    assert model_digest(str(copy)) == digest
    tokenizer = copy / "tokenizer_config.json"
    tokenizer.write_text(tokenizer.read_text().replace("<|endoftext|>", "<|other|>"))
    assert model_digest(str(copy)) != digest
    tiny_model(seed=1).save_pretrained(folder)
    assert model_digest(str(folder)) != digest


def test_an_adapters_digest_covers_its_base_and_not_the_order_of_a_set(folder: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(folder, tmp_path / "moved")
    first = model_digest(str(adapter(tmp_path / "one", folder)))
    assert model_digest(str(adapter(tmp_path / "two", moved, target_modules=["b", "a"]))) == first
    assert model_digest(str(adapter(tmp_path / "three", folder, r=8))) != first
    tiny_model(seed=1).save_pretrained(folder)
    assert model_digest(str(tmp_path / "one")) != first


def test_a_hub_ids_digest_is_of_its_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    revision: list[str | None] = ["abc"]
    reply = lambda *_, **__: SimpleNamespace(_commit_hash=revision[0])  # noqa: E731
    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", reply)
    monkeypatch.setattr(checkpoints, "require_hub", lambda hub_id: None)
    first = model_digest("someone/model")
    revision[0] = "abd"
    assert model_digest("someone/model") != first
    revision[0] = None
    with pytest.raises(PolicyError, match="which revision"):
        model_digest("someone/model")


def test_torn_json_is_named(folder: Path, tmp_path: Path) -> None:
    torn = adapter(tmp_path / "torn", folder)
    (torn / "adapter_config.json").write_text('{"peft_type": "LO')
    with pytest.raises(ArtifactError, match=r"torn/adapter_config\.json cannot be read"):
        checkpoints.adapter_base(torn)
