"""Loading, adapting and saving models."""

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from oel_core.config.run import LoraConfig, ModelConfig
from oel_core.config.sampling import Sampling
from oel_core.distillation.training.checkpoints import publish
from oel_core.errors import ArtifactError, ConfigError
from oel_core.models import checkpoints
from oel_core.models.adapters import add_lora, copy_adapter, is_lora, merge_lora, use_adapter
from oel_core.models.checkpoints import model_digest
from oel_core.models.loading import load_model, load_tokenizer
from oel_core.models.saving import current_weights, save_model, write_weights
from oel_core.policies.base import Request
from oel_core.policies.hf.policy import TransformersPolicy
from oel_core.types import Message
from tests.fakes import byte_tokenizer, tiny_model, tiny_model_folder
from tests.rounding import forward_rounding

pytestmark = pytest.mark.numeric

CONFIG = ModelConfig(device="cpu")
IDS = torch.tensor([[5, 6, 7, 8]])


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def adapted(folder: Path) -> Any:
    """The base with an adapter that says something."""
    model = add_lora(load_model(str(folder), CONFIG)[0], LoraConfig(r=4))
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_model_folder(tmp_path)


def test_a_saved_model_loads_as_it_was(tmp_path: Path) -> None:
    saved = save_model(tiny_model(), byte_tokenizer(), tmp_path / "out")
    model, tokenizer = load_model(str(saved), CONFIG)
    assert torch.equal(logits(model), logits(tiny_model()))
    assert not model.training
    assert tokenizer.padding_side == "left"
    assert tokenizer.chat_template == byte_tokenizer().chat_template
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_saving_replaces_and_repeats_the_bytes(folder: Path, tmp_path: Path) -> None:
    for model in (tiny_model(), adapted(folder)):
        digests = {model_digest(str(save_model(model, byte_tokenizer(), tmp_path / "out"))) for _ in "ab"}
        assert len(digests) == 1
    assert not (tmp_path / "out" / "model.safetensors").exists(), "the full model was replaced by the adapter"


def test_dtype_comes_from_the_configuration(folder: Path) -> None:
    model, _ = load_model(str(folder), ModelConfig(device="cpu", dtype="bfloat16"))
    assert model.dtype is torch.bfloat16


def test_a_new_adapter_changes_nothing_and_trains_only_itself(folder: Path) -> None:
    model = add_lora(tiny_model(), LoraConfig(r=4))
    assert is_lora(model)
    assert not is_lora(tiny_model())
    assert torch.equal(logits(model.eval()), logits(tiny_model()))
    trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trainable
    assert all("lora_" in name for name in trainable)


def test_an_adapter_folder_loads_on_its_base(folder: Path, tmp_path: Path) -> None:
    model = adapted(folder)
    saved = save_model(model, byte_tokenizer(), tmp_path / "adapter")
    assert not list(saved.glob("model*.safetensors")), "adapter-only"
    loaded, _ = load_model(str(saved), CONFIG)
    assert torch.equal(logits(loaded), logits(model))
    assert any(parameter.requires_grad for parameter in loaded.parameters()), "the next round goes on training it"
    wanted = logits(model)
    merged = logits(merge_lora(loaded))
    torch.testing.assert_close(merged, wanted, rtol=0, atol=forward_rounding(tiny_model(), wanted, wanted.shape[-2]))


def test_an_adapter_without_a_tokenizer_uses_its_bases(folder: Path, tmp_path: Path) -> None:
    saved = save_model(adapted(folder), byte_tokenizer(), tmp_path / "adapter")
    for path in [*saved.glob("tokenizer*"), *saved.glob("chat_template*")]:
        path.unlink()
    assert load_tokenizer(str(saved)).chat_template == byte_tokenizer().chat_template


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_adapter_plays(folder: Path, tmp_path: Path, dtype: Any) -> None:
    saved = save_model(adapted(folder), byte_tokenizer(), tmp_path / "adapter")
    requests = [Request((Message(role="user", content="go" * n),), n) for n in range(1, 4)]
    played, base = (
        TransformersPolicy.load(str(path), ModelConfig(device="cpu", dtype=dtype)).generate(
            requests, Sampling(temperature=0, max_tokens=12)
        )
        for path in (saved, folder)
    )
    assert [one.prompt_ids for one in played] == [one.prompt_ids for one in base]
    assert [one.response_ids for one in played] != [one.response_ids for one in base]


def test_the_embedded_base_is_named_not_placed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "SEED_LM_WEIGHTS", folder)
    saved = save_model(adapted(folder), byte_tokenizer(), tmp_path / "adapter")
    assert json.loads((saved / "adapter_config.json").read_text())["base_model_name_or_path"] == "seed-lm"


def test_a_frozen_copy_stays_while_the_adapter_moves(folder: Path) -> None:
    model = adapted(folder)
    before = logits(model)
    copy_adapter(model, "teacher")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                assert ".default." in name
                parameter.add_(0.1)
    assert not torch.equal(logits(model), before)
    use_adapter(model, "teacher")
    assert torch.equal(logits(model), before)
    assert all(".default." in name for name, p in model.named_parameters() if p.requires_grad)


def test_an_adapter_on_an_adapter_is_refused(folder: Path, tmp_path: Path) -> None:
    first = save_model(adapted(folder), byte_tokenizer(), tmp_path / "first")
    second = save_model(adapted(folder), byte_tokenizer(), tmp_path / "second")
    change(second, base_model_name_or_path=str(first))
    with pytest.raises(ArtifactError, match="is an adapter itself"):
        load_model(str(second), CONFIG)


def change(folder: Path, **values: object) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_damaged_adapters_are_artifact_errors(folder: Path, tmp_path: Path) -> None:
    saved = save_model(adapted(folder), byte_tokenizer(), tmp_path / "adapter")
    change(saved, megatron_config={"a": 1})
    with pytest.raises(ArtifactError, match="names code to import"):
        load_model(str(saved), CONFIG)
    change(saved, megatron_config=None, r=8)
    with pytest.raises(ArtifactError, match="does not fit its base"):
        load_model(str(saved), CONFIG)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_damaged_files_are_artifact_errors(folder: Path, name: str) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ArtifactError, match=str(folder)):
        load_model(str(folder), CONFIG)


def test_modules_that_are_not_there(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.lora does not fit"):
        add_lora(tiny_model(), LoraConfig(target_modules=("nothing",)))


def test_a_tokenizer_that_is_larger_than_the_model_is_refused(folder: Path) -> None:
    tokenizer = load_tokenizer(str(folder))
    tokenizer.add_tokens([f"<extra {number}>" for number in range(500)])
    tokenizer.save_pretrained(folder)
    with pytest.raises(ArtifactError, match=r"its tokenizer has \d+ tokens, its model only \d+"):
        load_model(str(folder), CONFIG)


@contextmanager
def a_full_disk(largest: int) -> Iterator[None]:
    """No file can grow beyond so many bytes; the system refuses the write as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("largest", [0, 2000, 20_000])
def test_a_full_disk_leaves_the_checkpoint_that_was_there(folder: Path, tmp_path: Path, largest: int) -> None:
    model, tokenizer = load_model(str(folder), CONFIG)
    target = save_model(model, tokenizer, tmp_path / "saved")
    before = model_digest(str(target))
    other = tiny_model(seed=1)
    for write in (
        lambda: save_model(other, tokenizer, target),
        lambda: write_weights(other, current_weights(other), tmp_path / "weights"),
        lambda: publish(tmp_path / "published", other.save_pretrained),
    ):
        with a_full_disk(largest), pytest.raises(ArtifactError, match="the disk is full"):
            write()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["saved", "tiny"]
        assert model_digest(str(target)) == before
    save_model(other, tokenizer, target)
    assert model_digest(str(target)) != before
