"""Adapters on tied weights are rejected at every entry point; all others merge exactly."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen3ForCausalLM

from oel_core.config.run import LoraConfig, ModelConfig, load_config
from oel_core.errors import ArtifactError, ConfigError, PolicyError
from oel_core.models import adapters, loading
from oel_core.models.adapters import add_lora, is_lora
from oel_core.models.checkpoints import read_json
from oel_core.models.loading import load_model, local_meta_model
from oel_core.models.saving import save_model
from oel_core.policies.hf.policy import TransformersPolicy
from oel_core.preflight import check as module
from oel_core.preflight.dry_run import dry_run
from tests.fakes import byte_tokenizer, tiny_model, tiny_model_folder

pytestmark = pytest.mark.numeric

CONFIG = ModelConfig(device="cpu")
IDS = torch.tensor([[5, 6, 7, 8, 60, 61, 62]])
LONGEST_SUM = 64
"""Terms of the longest sum in the tiny model: its feed-forward width."""
SHARED = [("lm_head",), ("embed_tokens",), ("q_proj", "lm_head")]


def tied_model() -> Qwen3ForCausalLM:
    config = tiny_model().config
    config.tie_word_embeddings = True
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Qwen3ForCausalLM(config).eval()


@pytest.fixture
def tied(tmp_path: Path) -> Path:
    tied_model().save_pretrained(tmp_path / "tied")
    byte_tokenizer().save_pretrained(tmp_path / "tied")
    return tmp_path / "tied"


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS).logits
    return found


def speaking(model: Any, targets: Any) -> Any:
    """With an adapter that is not zero, as after a round."""
    adapted = add_lora(model, LoraConfig(r=4, target_modules=targets)).eval()
    torch.manual_seed(0)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return adapted


def rounding_bound(model: Any) -> float:
    """How far a model's logits may move when each of its weights and sums is rounded once more.

    One rounding of every weight is tried out; n roundings of random sign in a sum add up to the square root of n.
    """
    before = logits(model)
    saved = {name: parameter.clone() for name, parameter in model.named_parameters()}
    eps = torch.finfo(torch.float32).eps
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + eps * torch.randint_like(parameter, 2).mul(2).sub(1))
        moved = float((logits(model) - before).abs().max())
        for name, parameter in model.named_parameters():
            parameter.copy_(saved[name])
    return moved * LONGEST_SUM**0.5


@pytest.mark.parametrize("targets", SHARED)
def test_an_adapter_on_shared_weights_is_refused_when_it_is_made(targets: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"target_modules: .*(lm_head|embed_tokens) shares its weights with .*untie"):
        add_lora(tied_model(), LoraConfig(target_modules=targets))


@pytest.mark.parametrize("targets", SHARED)
def test_a_run_and_a_dry_run_refuse_it_before_anything_is_loaded(
    tied: Path, tmp_path: Path, targets: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "_load_base", lambda *given: pytest.fail("weights were loaded"))
    settings = [f"model.path={tied}", "model.device=cpu", f"model.lora={{target_modules: [{', '.join(targets)}]}}"]
    config = load_config("quickstart", settings)
    with pytest.raises(ConfigError, match="shares its weights"):
        module.check(config)
    assert [line for line in dry_run(config, tmp_path).missing if line.startswith("adapter: model.lora.target_modules")]


def test_a_known_model_of_the_hub_is_refused_by_its_names() -> None:
    named = ModelConfig(path="Qwen/Qwen3-4B", lora=LoraConfig(target_modules=("q_proj", "lm_head")))
    with pytest.raises(ConfigError, match="lm_head shares its weights"):
        module.check_adapter(named)
    module.check_adapter(named.model_copy(update={"path": "Qwen/Qwen3-8B"}))  # not tied
    module.check_adapter(named.model_copy(update={"lora": LoraConfig()}))


def test_modules_that_are_not_there_are_found_before_a_run_starts(tied: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.lora does not fit"):
        module.check_adapter(ModelConfig(path=str(tied), lora=LoraConfig(target_modules=("nothing",))))


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_a_foreign_adapter_folder_on_shared_weights_is_refused(
    tied: Path, tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(adapters, "find_tied_adapter", lambda model: None)
        made = speaking(load_model(str(tied), CONFIG)[0], (target,))
        folder = save_model(made, byte_tokenizer(), tmp_path / "adapter")
    with pytest.raises(ArtifactError, match=f"adapter cannot be used: .*{target} shares its weights"):
        load_model(str(folder), CONFIG)


@pytest.mark.parametrize("targets", ["all-linear", ("q_proj", "down_proj")])
def test_adapters_within_a_tied_model_play_what_was_trained(tied: Path, tmp_path: Path, targets: Any) -> None:
    played_as_trained(tied, tmp_path, targets)


@pytest.mark.parametrize("targets", [("lm_head",), ("embed_tokens",), ("embed_tokens", "lm_head", "v_proj")])
def test_adapters_on_the_embeddings_of_an_untied_model_play_what_was_trained(tmp_path: Path, targets: Any) -> None:
    played_as_trained(tiny_model_folder(tmp_path), tmp_path, targets)


def played_as_trained(base: Path, tmp_path: Path, targets: Any) -> None:
    """The adapter model, the folder that a round leaves of it, and what the next round plays from that folder."""
    trained = speaking(load_model(str(base), CONFIG)[0], targets)
    wanted = logits(trained)
    folder = save_model(trained, byte_tokenizer(), tmp_path / "adapter")
    loaded = load_model(str(folder), CONFIG)[0]
    assert torch.equal(logits(loaded), wanted)
    played = TransformersPolicy.load(str(folder), CONFIG)._model
    assert not is_lora(played)
    bound = rounding_bound(played)
    assert bound < 1e-2 * float(wanted.abs().max())
    assert float((logits(played) - wanted).abs().max()) <= bound
    assert not torch.allclose(wanted, logits(load_model(str(base), CONFIG)[0]), atol=0.1)
    whole = save_model(played, byte_tokenizer(), tmp_path / "merged")
    again = load_model(str(whole), CONFIG)[0]
    assert torch.equal(logits(again), logits(played))
    assert (
        read_json(whole / "config.json")["tie_word_embeddings"]
        == read_json(base / "config.json")["tie_word_embeddings"]
    )


def test_a_meta_model_needs_no_weights_and_is_none_for_an_unknown_model(
    tied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OEL_CACHE", str(tmp_path / "cache"))
    (tied / "model.safetensors").write_bytes(b"")
    bare = local_meta_model(str(tied))
    assert bare is not None
    assert {parameter.device.type for parameter in bare.parameters()} == {"meta"}
    assert local_meta_model("nobody/knows") is None
    with pytest.raises(PolicyError, match="fetch"):
        local_meta_model("smollm2-135m")
