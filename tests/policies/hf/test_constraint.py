"""Constrained decoding: whatever the weights are, a response matches its shape, and other rows draw what they drew."""

import re
import sys
from typing import Any

import numpy as np
import pytest
import regex
import torch
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from oel_core.config.run import ModelConfig
from oel_core.config.sampling import Sampling
from oel_core.envs.tools.env import ToolEnv
from oel_core.errors import ConfigError, PolicyError
from oel_core.policies.base import Completion, Request
from oel_core.policies.hf import constraint
from oel_core.policies.hf.constraint import Constraint, Constraints, check_shape
from oel_core.policies.hf.policy import TransformersPolicy
from oel_core.prompts.extraction.base import ANY_LINE
from oel_core.prompts.extraction.itemised import FORMAT, shape
from oel_core.types import Message, StopReason
from tests.fakes import byte_tokenizer, tiny_model
from tests.policies.tokenizers import KINDS

CONFIG = ModelConfig(batch_size=4, device="cpu")
SHORT = shape(r'"[a-z]{1,3}" is done with: [a-z]{1,3}')
SHAPES = {
    "any line": shape(ANY_LINE),
    "tools": shape(ToolEnv.item_shape),
    "short": SHORT,
    "one of two": "yes|né",
    "one text": "- \U0001f9ca",
}
FAST = sorted(KINDS.keys() - {"bytes"})


def ask(text: str, seed: int, shape: str | None = None) -> Request:
    return Request((Message(role="user", content=text),), seed, shape)


def policy(weights: int = 0) -> TransformersPolicy:
    return TransformersPolicy(tiny_model(weights), byte_tokenizer(), CONFIG, "tiny")


def matches(shape: str, completion: Completion) -> bool:
    """Whole where it ended, as far as it got where the cap cut it. Half a character at the cut is no text yet."""
    if completion.stop_reason is StopReason.EOS:
        return regex.fullmatch(shape, completion.text) is not None
    return regex.fullmatch(shape, completion.text.rstrip("\ufffd"), partial=True) is not None


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize(
    "sampling",
    [Sampling(temperature=0, max_tokens=60), Sampling(temperature=1.5, top_p=0.9, top_k=40, max_tokens=60)],
    ids=["greedy", "sampled"],
)
@pytest.mark.parametrize("weights", [0, 1, 2])
def test_every_response_matches_its_shape(name: str, sampling: Sampling, weights: int) -> None:
    asked = [ask("x" * n, n, SHAPES[name]) for n in range(6)]
    completions = policy(weights).generate(asked, sampling)
    assert all(matches(SHAPES[name], completion) for completion in completions)


def test_a_shape_that_ends_ends_the_response() -> None:
    for completion in policy().generate([ask("x" * n, n, "yes|no") for n in range(6)], Sampling(max_tokens=20)):
        assert completion.text in ("yes", "no")
        assert completion.stop_reason is StopReason.EOS
        assert completion.response_ids[-1] in (0, 2)


@pytest.mark.parametrize("sampling", [Sampling(temperature=0, max_tokens=24), Sampling(max_tokens=24)])
def test_rows_without_a_shape_draw_what_they_drew(sampling: Sampling) -> None:
    """In a batch with constrained rows, some of which end early, and in one without."""
    free = [ask("x" * n, n) for n in range(8)]
    mixed = [ask("x" * n, n, "yes|no" if n % 2 else None) for n in range(8)]
    alone, beside = policy().generate(free, sampling), policy().generate(mixed, sampling)
    assert [one.response_ids for one in alone[::2]] == [one.response_ids for one in beside[::2]]
    assert all(one.text in ("yes", "no") for one in beside[1::2])


def test_a_mask_leaves_the_logits_of_what_is_allowed_as_they_are() -> None:
    begun = Constraints(byte_tokenizer(), [0, 2], 259).begin(["[a-z]+", None])
    assert begun is not None
    logits = torch.randn(2, 259, generator=torch.Generator().manual_seed(0))
    masked = begun.masked(logits, [0, 1])
    allowed = masked[0].isfinite()
    letters = byte_tokenizer().convert_tokens_to_ids([chr(code) for code in range(ord("a"), ord("z") + 1)])
    assert allowed.nonzero()[:, 0].tolist() == sorted(letters)
    assert torch.equal(masked[0][allowed], logits[0][allowed])
    assert torch.equal(masked[1], logits[1])


def test_the_extractors_format_reads_every_item_of_a_constrained_answer() -> None:
    sampling = Sampling(temperature=1.2, max_tokens=200)
    for completion in policy().generate([ask("x" * n, n, SHORT) for n in range(8)], sampling):
        whole = completion.text if completion.stop_reason is StopReason.EOS else FORMAT.finished(completion.text)
        items = FORMAT.parse(whole)
        assert len(items) == whole.count("EXPERIENCE")
        assert all(re.fullmatch(r'- EXPERIENCE ITEM: "[a-z]{1,3}" is done with: [a-z]{1,3}', item) for item in items)


def walk(constraint: Constraint, stops: set[int], width: int, seed: int) -> list[int]:
    """Token ids drawn evenly among those that are allowed."""
    rng, ids = np.random.default_rng(seed), list[int]()
    while len(ids) < 60 and not stops & set(ids):
        logits = constraint.masked(torch.zeros(1, width), [0])
        ids.append(int(rng.choice(np.flatnonzero(np.isfinite(logits[0].numpy())))))
        constraint.advance([0], ids[-1:])
    return ids


@pytest.mark.parametrize("kind", FAST)
def test_texts_of_any_kind_of_tokenizer_match(kind: str) -> None:
    """With a vocabulary that is wider than the tokenizer, as padded embeddings are."""
    tokenizer = KINDS[kind]()
    stop, width = tokenizer.eos_token_id, len(tokenizer) + 5
    constraints = Constraints(tokenizer, [stop], width)
    wanted = shape("(?:step|board|goal) [a-z ]{0,9}")
    for seed in range(20):
        begun = constraints.begin([wanted])
        assert begun is not None
        ids = walk(begun, {stop}, width, seed)
        assert all(token == stop for token in ids if token >= len(tokenizer) or token in tokenizer.all_special_ids)
        text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert regex.fullmatch(wanted, text, partial=stop not in ids), (text, ids)


def test_a_batch_without_shapes_has_no_constraint() -> None:
    assert Constraints(byte_tokenizer(), [0, 2], 259).begin([None, None]) is None


@pytest.mark.parametrize("wrong", ["(?=a)b", r"(a)\1", "(a"])
def test_an_expression_that_cannot_constrain_is_named(wrong: str) -> None:
    with pytest.raises(ConfigError, match=r"extract\.item_shape: it cannot constrain an answer: .*regex"):
        check_shape(wrong)
    with pytest.raises(ConfigError, match=r"extract\.item_shape"):
        policy().generate([ask("x", 0, wrong)], Sampling(max_tokens=3))


def test_a_vocabulary_that_cannot_go_on_is_named() -> None:
    backend = Tokenizer(models.BPE(vocab={"<end>": 0, "y": 1, "e": 2}, merges=[]))
    backend.decoder = decoders.ByteLevel()
    constraints = Constraints(PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>"), [0], 3)
    begun = constraints.begin(["yes"])
    assert begun is not None
    for token in (1, 2):
        assert begun.masked(torch.zeros(1, 3), [0]).isfinite().tolist() == [[False, token == 1, token == 2]]
        begun.advance([0], [token])
    with pytest.raises(PolicyError, match="may lack a character that the shape demands"):
        begun.masked(torch.zeros(1, 3), [0])


def test_logits_that_are_not_finite_are_named_as_without_a_shape() -> None:
    model = tiny_model()
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    broken = TransformersPolicy(model, byte_tokenizer(), CONFIG, "broken")
    with pytest.raises(PolicyError, match="not finite"):
        broken.generate([ask("x", 0, "yes|no")], Sampling(temperature=0, max_tokens=3))


def test_a_slow_tokenizer_is_refused() -> None:
    with pytest.raises(PolicyError, match=r"cannot read this model's tokenizer .*: set extract\.constrained to off"):
        Constraints(KINDS["bytes"](), [1], 300)


def test_a_template_that_begins_thinking_is_refused() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.chat_template = str(tokenizer.chat_template) + "{{ '<think>' }}"
    model = tiny_model()
    model.resize_token_embeddings(len(tokenizer))
    thinking = TransformersPolicy(model, tokenizer, CONFIG, "thinking")
    assert thinking.generate([ask("x", 0)], Sampling(max_tokens=2))
    with pytest.raises(ConfigError, match="begins every response with thinking"):
        thinking.generate([ask("x", 0, "yes")], Sampling(max_tokens=2))


def test_without_llguidance_one_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, *_: Any) -> None:
        return None

    monkeypatch.setattr(constraint, "find_spec", missing)
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(PolicyError, match=r"pip install 'oel\[constrained\]'"):
        policy().generate([ask("x", 0, "yes")], Sampling(max_tokens=3))
    assert policy().generate([ask("x", 0)], Sampling(max_tokens=3))
