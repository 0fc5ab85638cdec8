"""Sizes from configurations against real models, and estimates against hand counts."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    Olmo2Config,
    Qwen2Config,
    Qwen3Config,
)

from oel_core.config.run import LoraConfig, OelConfig, load_config, preset_names
from oel_core.models.adapters import add_lora
from oel_core.models.architectures import Architecture, known_architecture, read_architecture
from oel_core.models.checkpoints import SEED_LM_WEIGHTS
from oel_core.preflight.estimate import (
    estimate,
    generation_memory,
    trained_parameters,
    training_memory,
    training_weights,
    transient_disk,
    turn_prompts,
)
from tests.fakes import tiny_model

SMALL: dict[str, Any] = {
    "vocab_size": 101,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def known(path: str) -> Architecture:
    found = known_architecture(path)
    assert found is not None
    return found


def tiny_architecture() -> Architecture:
    """1000 embeddings, 360 in the attention, 600 in the feed-forward layer, 30 in norms."""
    found = read_architecture(
        {
            "model_type": "llama",
            "vocab_size": 100,
            "hidden_size": 10,
            "intermediate_size": 20,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 6,
            "tie_word_embeddings": True,
        }
    )
    assert found is not None
    return found


def count(config: Any) -> int:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return sum(weight.numel() for weight in model.parameters())


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(**SMALL),
        LlamaConfig(**SMALL, tie_word_embeddings=True, attention_bias=True, mlp_bias=True),
        LlamaConfig(**SMALL, head_dim=20),
        Qwen2Config(**SMALL),
        Qwen2Config(**SMALL, tie_word_embeddings=True),
        Qwen3Config(**SMALL, head_dim=16, attention_bias=True),
        Qwen3Config(**SMALL, head_dim=16, tie_word_embeddings=True),
    ],
    ids=lambda config: config.model_type,
)
def test_parameters_are_counted_exactly(config: Any) -> None:
    architecture = read_architecture(json.loads(config.to_json_string(use_diff=False)))
    assert architecture is not None
    assert architecture.parameters == count(config)


def test_the_seed_models_parameters_are_counted_exactly() -> None:
    architecture = read_architecture(json.loads((SEED_LM_WEIGHTS / "config.json").read_text()))
    assert architecture is not None
    assert architecture.parameters == count(AutoConfig.from_pretrained(SEED_LM_WEIGHTS))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Qwen/Qwen3-0.6B", 596_049_920),
        ("Qwen/Qwen3-1.7B", 1_720_574_976),
        ("Qwen/Qwen3-4B", 4_022_468_096),
        ("Qwen/Qwen3-4B-Instruct-2507", 4_022_468_096),
        ("Qwen/Qwen3-8B", 8_190_735_360),
        ("smollm2-135m", 134_515_008),
    ],
)
def test_known_models_have_their_published_size(name: str, parameters: int) -> None:
    assert known(name).parameters == parameters


@pytest.mark.parametrize("modules", ["all-linear", ("q_proj", "v_proj")])
def test_an_adapters_parameters_are_counted_exactly(modules: Any) -> None:
    model = tiny_model()
    architecture = read_architecture(model.config.to_dict())
    adapted = add_lora(model, LoraConfig(r=4, target_modules=modules))
    trained = sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)
    assert architecture is not None
    assert architecture.adapter_parameters(4, modules) == trained


@pytest.mark.parametrize(
    ("config", "parameters", "cache_values"),
    [
        # embeddings 101 x 48; a block: attention 48 x (80 + 2 x 40) + 80 x 48, three matrices 48 x 80, norms
        (GemmaConfig(**SMALL, head_dim=20), 101 * 48 + 3 * (48 * 240 + 3 * 48 * 80 + 2 * 48) + 48, 2 * 3 * 40),
        # not tied, norms of queries and keys as wide as they are
        (Olmo2Config(**SMALL), 2 * 101 * 48 + 3 * (48 * 144 + 3 * 48 * 80 + 2 * 48 + 72) + 48, 2 * 3 * 24),
        # embeddings of tokens and positions; a block with biases, its matrices of the kind Conv1D
        (
            GPT2Config(vocab_size=101, n_embd=48, n_layer=3, n_head=4, n_positions=64),
            165 * 48 + 3 * 28_272 + 96,
            2 * 3 * 48,
        ),
    ],
    ids=lambda value: getattr(value, "model_type", ""),
)
def test_any_architecture_of_transformers_is_counted(config: Any, parameters: int, cache_values: int) -> None:
    found = read_architecture(json.loads(config.to_json_string(use_diff=False)))
    assert found is not None
    assert (found.parameters, found.cache_values) == (parameters, cache_values)
    with torch.device("meta"):
        adapted = add_lora(AutoModelForCausalLM.from_config(config), LoraConfig(r=2, target_modules="all-linear"))
    trained = sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)
    assert found.adapter_parameters(2, "all-linear") == trained


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"model_type": "of next year"},
        {"model_type": "llama", "hidden_size": "wide"},
        {"model_type": "llama", "num_hidden_layers": 10**9},
        {"model_type": "qwen3", "num_attention_heads": 0},
    ],
)
def test_what_cannot_be_built_is_not_guessed_at(values: dict[str, Any]) -> None:
    assert read_architecture(values) is None


def needs(**overrides: Any) -> dict[str, Any]:
    config = OelConfig.model_validate(
        {
            "rounds": 2,
            "environment": {"max_turns": 3},
            "model": {"max_length": 4096},
            "play": {"sampling": {"max_tokens": 100}},
            "collect": {"replicas": 2, "extraction_episodes": 4},
            "extract": {"with_previous": False, "sampling": {"max_tokens": 50}},
            "knowledge": {"max_tokens": 200},
            "distill": {"steps": 5, "episodes_per_step": 4, "turns_per_episode": 2, "max_response_tokens": 100},
            "evaluate": {"games": {"episodes": 10, "arms": ("in_context",), "sampling": {"max_tokens": 100}}},
            **overrides,
        }
    )
    return {stage.stage: stage for stage in estimate(config, None)}


def test_calls_and_tokens_by_hand() -> None:
    found = needs()
    # an episode of 3 turns reads 512 + 1024 + 1536 = 3072 prompt tokens at most
    collect = found["collect"]
    assert (collect.rounds, collect.calls) == (2, (2 * 4 + 5 * 4) * 3)
    assert (collect.prompt_tokens, collect.response_tokens) == (28 * 3072, 28 * 3 * 100)
    extract = found["extract"]
    assert (extract.calls, extract.prompt_tokens, extract.response_tokens) == (8, 8 * 3 * 612, 8 * 50)
    distill = found["distill"]
    assert (distill.calls, distill.prompt_tokens, distill.response_tokens) == (40, 20 * (1024 + 1536), 4000)
    base, evaluate = found["evaluate the base model"], found["evaluate"]
    assert (base.rounds, base.calls, base.prompt_tokens) == (1, 30, 10 * 3072)
    assert (evaluate.calls, evaluate.prompt_tokens) == (60, 2 * 10 * 3072 + 10 * 3 * 200)


def test_scoring_knowledge_is_counted() -> None:
    scored = {"selection": {"use": "best", "episodes": 6}, "saturation": {"every": 3, "episodes": 5}}
    found = needs(knowledge={"max_tokens": 200, **scored})
    assert list(found)[2:5] == ["extract", "saturation", "select"]
    select, saturation = found["select"], found["saturation"]
    assert (select.rounds, select.calls) == (2, 3 * (1 + 2) * 6), "without knowledge, and with each of two files"
    assert select.prompt_tokens == 3 * 6 * 3072 + 2 * 6 * 3 * 200
    assert saturation.calls == 3 * (1 + 2 * 2) * 5, "after 3 and after 4 episodes"
    assert not {"select", "saturation"} & set(needs())


def test_a_teacher_that_answers_reads_its_knowledge() -> None:
    distill = {"steps": 5, "episodes_per_step": 4, "turns_per_episode": 2, "max_response_tokens": 100}
    asked = needs(distill={**distill, "regime": "teacher_rollouts"})["distill"].prompt_tokens
    assert asked - needs(distill=distill)["distill"].prompt_tokens == 40 * 200


def test_step_by_step_a_prompt_has_some_items_only() -> None:
    distill = {"steps": 5, "episodes_per_step": 4, "turns_per_episode": 2, "regime": "teacher_rollouts"}
    knowledge = {"max_tokens": 4000, "injection": {"mode": "step_wise", "items": 2}}
    extract = {"sampling": {"max_tokens": 30}}
    shown = needs(distill=distill, knowledge=knowledge, extract=extract)["distill"].prompt_tokens
    alone = needs(distill={**distill, "regime": "on_policy"})["distill"].prompt_tokens
    assert shown - alone == 40 * 2 * 30


READ_WITH_KNOWLEDGE = ("distill.retention.in_context_weight=1", "distill.retention.counterfactual_weight=1")


def test_models_beside_the_student_by_hand() -> None:
    small = tiny_architecture()

    def bytes_each(*overrides: str) -> int:
        config = load_config("quickstart", ["model.dtype=bfloat16", *overrides])
        return training_weights(config, small) // small.parameters

    assert bytes_each("distill.teacher=live") == bytes_each("distill.regime=sft") == 16 + 2
    assert bytes_each("distill.teacher=ema") == 16 + 2 + 2 + 4, "the average is kept in float32"
    for held in READ_WITH_KNOWLEDGE:
        assert bytes_each() == bytes_each(held) == 16 + 2 + 2
        assert bytes_each("distill.teacher=live", held) == 16 + 2 + 2


@pytest.mark.parametrize("term", READ_WITH_KNOWLEDGE)
def test_a_student_that_reads_knowledge_needs_room_for_it(term: str) -> None:
    small = tiny_architecture()
    plain, held = (
        load_config("quickstart", ["knowledge.max_tokens=1000", "distill.micro_batch_tokens=1", *more])
        for more in ([], [term])
    )
    assert training_memory(held, small) > training_memory(plain, small)


def test_prompts_stop_at_what_the_model_reads_and_at_the_history() -> None:
    config = load_config("quickstart", ["model.max_length=1500", "play.history_turns=null", "environment.max_turns=4"])
    assert turn_prompts(config, 4, 0, 100) == [512, 1024, 1400, 1400]
    seen = load_config("quickstart", ["model.max_length=9999", "play.history_turns=1", "environment.max_turns=4"])
    assert turn_prompts(seen, 4, 10, 100) == [522, 1034, 1034, 1034]


def test_suites_are_counted_by_their_own_numbers() -> None:
    whole = needs(evaluate={"games": {"episodes": 10, "arms": ()}, "ood": {"ifeval": {}}})["evaluate"]
    part = needs(evaluate={"games": {"episodes": 10, "arms": ()}, "ood": {"ifeval": {"subset": 41}}})["evaluate"]
    assert whole.calls - part.calls == 500


def test_full_fine_tuning_and_adapters_by_hand() -> None:
    small = tiny_architecture()
    plain = load_config(
        "quickstart", ["distill.micro_batch_tokens=1", "distill.max_response_tokens=1", "model.max_length=2"]
    )
    adapted = load_config("quickstart", ["model.lora={r: 2}", "model.dtype=bfloat16"])
    assert trained_parameters(plain, small) == small.parameters == 1000 + 360 + 600 + 30
    assert trained_parameters(adapted, small) == 2 * (22 + 16 + 16 + 22 + 30 + 30 + 30)
    assert transient_disk(adapted, small) == 3 * 332 * 4 * 3
    merged = load_config("quickstart", ["model.lora={r: 2, merge: true}", "model.dtype=bfloat16"])
    sizes = [
        {need.stage: need.disk for need in estimate(config, small)}["distill"] for config in (plain, adapted, merged)
    ]
    assert sizes == [4 * small.parameters, 4 * 332, 2 * small.parameters]
    assert transient_disk(merged, small) == transient_disk(adapted, small)
    # float32: weights, gradients and two moments are 16 bytes, the teacher 4
    assert training_memory(plain, small) > 20 * small.parameters
    longer = load_config(
        "quickstart", ["distill.micro_batch_tokens=900", "distill.max_response_tokens=1", "model.max_length=2"]
    )
    assert training_memory(longer, small) > training_memory(plain, small)


FITS = {
    "paper-frozen-lake-1.7b": 80,
    "paper-frozen-lake-4b": 141,
    "paper-sokoban-4b": 141,
    **{
        name: 24 for name in preset_names() if name.endswith("24gb") or (name.endswith("-1.7b") and "textworld" in name)
    },
    **{name: 80 for name in preset_names() if name.endswith("80gb") or (name.endswith("-4b") and "textworld" in name)},
}


@pytest.mark.parametrize("preset", FITS)
def test_a_preset_fits_the_gpu_that_it_names(preset: str) -> None:
    config = load_config(preset)
    assert f"{FITS[preset]} GB" in config.description
    peak = max(stage.memory or 0 for stage in estimate(config, known(config.model.path)))
    assert 0 < peak < FITS[preset] * 10**9


def test_eight_gpus_divide_the_8b_setting() -> None:
    spread = ["distill.processes=8", "distill.sharding=fsdp2", "distill.gradient_checkpointing=true"]
    one, eight = load_config("paper-frozen-lake-8b", spread[2:]), load_config("paper-frozen-lake-8b", spread)
    model = known(one.model.path)
    assert training_memory(eight, model) < 80 * 10**9 < training_memory(one, model)
    # weights, gradients and moments are divided; the teacher and the gathered weights are not
    assert training_memory(one, model) - training_memory(eight, model) == 14 * model.parameters


def test_processes_on_a_cpu_share_its_memory() -> None:
    one, two = (load_config("quickstart", [f"distill.processes={count}", "model.device=cpu"]) for count in (1, 2))
    small = tiny_architecture()
    alone, together = ({need.stage: need for need in estimate(config, small)}["distill"] for config in (one, two))
    assert together.memory == 2 * (alone.memory or 0)


def test_the_8b_setting_says_that_it_fits_nothing_of_141_gb() -> None:
    config = load_config("paper-frozen-lake-8b")
    assert max(stage.memory or 0 for stage in estimate(config, known(config.model.path))) > 141 * 10**9
    assert "more memory than one 141 GB GPU" in config.description


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["generate", "distill"])
@pytest.mark.parametrize("shape", ["deep", "wide vocabulary"])
def test_memory_is_within_a_factor_of_two_of_what_is_measured(stage: str, shape: str, tmp_path: Path) -> None:
    """Peak growth of a fresh process in float32 on the CPU, in bytes."""
    for step in ("make", stage):
        command = [sys.executable, "-m", "tests.memory_probe", step, shape, str(tmp_path)]
        root = Path(__file__).parents[2]
        ended = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root, timeout=600)
    measured, expected = json.loads(ended.stdout.splitlines()[-1])
    assert measured / 2 <= expected <= measured * 2, f"measured {measured:,}, expected {expected:,}"


def test_more_in_a_batch_needs_more_until_there_is_no_more() -> None:
    config = load_config("quickstart", ["model.batch_size=8"])
    sizes = [generation_memory(config, known("smollm2-135m"), 100, 10, together) for together in (1, 4, 8, 99)]
    assert sizes[0] < sizes[1] < sizes[2] == sizes[3]
