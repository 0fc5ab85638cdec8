"""The policy around the decode loop: templates, stop tokens, lengths, records."""

import json
from pathlib import Path

import pytest
import torch

from oel_core.config.run import ModelConfig
from oel_core.config.sampling import Sampling
from oel_core.errors import ConfigError, PolicyError, PromptTooLongError
from oel_core.models.loading import load_model
from oel_core.policies.base import Completion, Request
from oel_core.policies.hf.policy import TransformersPolicy, stop_token_ids
from oel_core.policies.text.chat import Chat, prompt_ids
from oel_core.types import Message, StopReason
from tests.fakes import byte_tokenizer, tiny_model, tiny_model_folder
from tests.rounding import in_float64

CONFIG = ModelConfig(batch_size=3, device="cpu")


def ask(text: str, seed: int = 0) -> Request:
    return Request((Message(role="system", content="Play."), Message(role="user", content=text)), seed)


@pytest.fixture(scope="module")
def policy() -> TransformersPolicy:
    return TransformersPolicy(tiny_model(), byte_tokenizer(), CONFIG, "tiny")


def ending() -> TransformersPolicy:
    """A policy that stops at many tokens, so that some responses end early."""
    model = tiny_model()
    model.generation_config.eos_token_id = list(range(60, 120))
    return TransformersPolicy(model, byte_tokenizer(), CONFIG, "ending")


def test_records_hold_the_exact_ids(policy: TransformersPolicy) -> None:
    completion = policy.generate([ask("ab")], Sampling(max_tokens=5))[0]
    tokenizer = byte_tokenizer()
    read = "<|im_start|>system\nPlay.<|im_end|>\n<|im_start|>user\nab<|im_end|>\n<|im_start|>assistant\n<think></think>"
    assert tokenizer.decode(completion.prompt_ids) == read
    assert completion.text == tokenizer.decode(completion.response_ids, skip_special_tokens=True)


def test_finish_reasons() -> None:
    completions = ending().generate([ask("x" * n, n) for n in range(12)], Sampling(temperature=1, max_tokens=6))
    reasons = {completion.stop_reason for completion in completions}
    assert reasons == {StopReason.EOS, StopReason.LENGTH}
    for completion in completions:
        stopped = completion.response_ids[-1] in {2, *range(60, 120)}
        assert completion.stop_reason == (StopReason.EOS if stopped else StopReason.LENGTH)
        assert stopped or len(completion.response_ids) == 6


def test_special_tokens_are_left_out_of_the_text_and_kept_in_the_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oel_core.policies.hf.policy.sample_responses", lambda *_: [[67, 68, 2]])
    policy = TransformersPolicy(tiny_model(), byte_tokenizer(), CONFIG, "tiny")
    tokenizer = byte_tokenizer()
    completion = policy.generate([ask("a")], Sampling(max_tokens=5))[0]
    assert completion == Completion(tokenizer.decode([67, 68]), completion.prompt_ids, (67, 68, 2), StopReason.EOS)


@pytest.mark.numeric
def test_answers_keep_the_order_across_batches_and_repeat_byte_for_byte() -> None:
    policy = TransformersPolicy(in_float64(tiny_model()), byte_tokenizer(), CONFIG, "tiny")
    requests = [ask("y" * (7 - n), n) for n in range(7)]
    first = policy.generate(requests, Sampling(max_tokens=8))
    assert policy.generate(requests, Sampling(max_tokens=8)) == first
    assert [len(one.prompt_ids) for one in first] == sorted((len(one.prompt_ids) for one in first), reverse=True)
    assert policy.generate([requests[4]], Sampling(max_tokens=8)) == [first[4]]
    assert policy.generate([], Sampling()) == []


def test_thinking_reaches_the_template_that_knows_it() -> None:
    tokenizer, messages = byte_tokenizer(), ask("a").messages
    assert tokenizer.decode(prompt_ids(tokenizer, messages, thinking=False)).endswith("<think></think>")
    assert tokenizer.decode(prompt_ids(tokenizer, messages, thinking=True)).endswith("assistant\n")
    tokenizer.chat_template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    assert prompt_ids(tokenizer, messages, thinking=False) == prompt_ids(tokenizer, messages, thinking=True)


def test_every_end_token_stops() -> None:
    model, tokenizer = tiny_model(), byte_tokenizer()
    assert stop_token_ids(model, tokenizer) == {0, 2}
    model.generation_config.eos_token_id = 7
    assert stop_token_ids(model, tokenizer) == {2, 7}
    model.generation_config.eos_token_id = None
    assert stop_token_ids(model, tokenizer) == {2}
    tokenizer.eos_token = None
    assert stop_token_ids(model, tokenizer) == {2}, "the model's configuration names it too"
    model.config.eos_token_id = None
    with pytest.raises(PolicyError, match="no end token"):
        stop_token_ids(model, tokenizer)


@pytest.mark.parametrize("generation", [None, {}, {"eos_token_id": [70, 71]}])
def test_all_backends_stop_at_the_same_tokens(tmp_path: Path, generation: dict[str, list[int]] | None) -> None:
    folder = tiny_model_folder(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"eos_token_id": [68, 69]}))
    (folder / "generation_config.json").unlink()
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    stops = {2, 70, 71} if generation else {2, 68, 69}
    assert Chat.load(str(folder), CONFIG).stops == stops
    model, tokenizer = load_model(str(folder), CONFIG)
    assert stop_token_ids(model, tokenizer) == stops


def test_prompts_that_do_not_fit_are_named_with_what_is_too_much() -> None:
    policy = TransformersPolicy(tiny_model(), byte_tokenizer(), CONFIG.model_copy(update={"max_length": 100}), "tiny")
    fits = len(policy.generate([ask("a")], Sampling(max_tokens=1))[0].prompt_ids)
    room = 100 - fits
    policy.generate([ask("a")], Sampling(max_tokens=room))
    with pytest.raises(PromptTooLongError, match=r"5 tokens over model.max_length of 100") as caught:
        policy.generate([ask("a"), ask("a" * 6), ask("a"), ask("a" * 9)], Sampling(max_tokens=room))
    assert sorted(caught.value.problems) == [1, 3]
    assert "1 more" in str(caught.value)


def test_the_model_cannot_be_asked_past_its_own_positions() -> None:
    model = tiny_model()
    model.config.max_position_embeddings = 64
    policy = TransformersPolicy(model, byte_tokenizer(), CONFIG, "tiny")
    with pytest.raises(PromptTooLongError, match="the model's own length of 64"):
        policy.generate([ask("a")], Sampling(max_tokens=20))


def test_a_closed_policy_says_so() -> None:
    policy = TransformersPolicy(tiny_model(), byte_tokenizer(), CONFIG, "tiny")
    policy.close()
    with pytest.raises(PolicyError, match="closed"):
        policy.generate([ask("a")], Sampling())


def test_a_model_without_a_chat_template_is_refused() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(PolicyError, match="no chat template"):
        TransformersPolicy(tiny_model(), tokenizer, CONFIG, "tiny")


def test_tokens_are_counted_without_markup(policy: TransformersPolicy) -> None:
    assert policy.count_tokens("abc é") == 6
    assert policy.count_tokens("") == 0


def test_loading_names_the_policy_by_folder_and_digest(tmp_path: Path) -> None:
    folder = tiny_model_folder(tmp_path)
    policy = TransformersPolicy.load(str(folder), CONFIG)
    label, _, digest = policy.name.partition("@")
    assert label == "tiny"
    assert len(digest) == 12
    direct = TransformersPolicy(tiny_model(), byte_tokenizer(), CONFIG, "tiny")
    sampling = Sampling(max_tokens=10)
    assert policy.generate([ask("a", 3)], sampling) == direct.generate([ask("a", 3)], sampling)


def test_cuda_without_cuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no CUDA device"):
        TransformersPolicy.load(str(tiny_model_folder(tmp_path)), ModelConfig(device="cuda"))


def test_a_template_that_refuses_the_conversation_says_so() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    )
    with pytest.raises(PolicyError, match=r"refuses messages of system, user: System role not supported\. Use a model"):
        TransformersPolicy(tiny_model(), tokenizer, CONFIG, "stubborn")
