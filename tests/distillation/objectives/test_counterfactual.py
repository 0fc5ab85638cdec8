"""Counterfactual knowledge: what is replaced, what stays, and the term exact, effective and resumable."""

import random
import string

import pytest
import torch
from hypothesis import given as hypothesis_given
from hypothesis import strategies as st

from oel_core.distillation.data.dataset import Sample
from oel_core.distillation.objectives import counterfactual as module
from oel_core.distillation.objectives.counterfactual import FEWEST, Words, counterfactual
from oel_core.distillation.training.rollouts import Rollout
from oel_core.distillation.training.run import distill
from oel_core.errors import ConfigError
from oel_core.models.loading import load_model
from oel_core.policies.text.chat import prompt_ids
from oel_core.prompts.play import with_knowledge
from tests.distillation.builders import KNOWLEDGE, arguments, prompts
from tests.distillation.objectives.test_retention import LORA, assert_term, divergence
from tests.distillation.training.test_run import Abort, abort_at, files, lines
from tests.distillation.training.test_trainer import make_trainer
from tests.fakes import byte_tokenizer, tiny_model, tiny_model_folder

pytestmark = pytest.mark.numeric

NAMES = sorted({"".join(random.Random(number).choices(string.ascii_lowercase, k=5)) for number in range(300)})
VOCABULARY = {
    token: number
    for number, token in enumerate(
        [
            *(space + name for name in NAMES[:200] for space in ("", "Ġ")),  # with and without a leading space
            *("Ġ" + name for name in NAMES[200:]),
            *(space + other for other in (*"0123456789", "--") for space in ("", "Ġ")),
            "Ġa",
            "Shop",
        ]
    )
}
WORDS = Words(VOCABULARY)


def ids(text):
    return [VOCABULARY[token] for token in text.replace(" ", " Ġ").split()]


def rollout(knowledge, request, response, *, file=0, seed=3):
    sample = Sample("e/turn0", 0, ids(request), ids(f"{knowledge} {request}"), file, file, seed)
    return Rollout(sample, ids(response), truncated=False)


def test_words_of_a_response_that_come_from_the_knowledge_are_replaced_everywhere():
    a, b, c, d = NAMES[:4]
    one = rollout(f"{a} {b} 7 {a} {c}", f"{d} {c}", f"{a} {b} {c}")
    (found,) = counterfactual([one], WORDS)
    tokens = {number: token for token, number in VOCABULARY.items()}
    prompt = [tokens[number].removeprefix("Ġ") for number in found.sample.teacher_prompt]
    response = [tokens[number].removeprefix("Ġ") for number in found.response]
    assert prompt == [response[0], response[1], "7", response[0], c, d, c]
    assert response[2] == c  # stands in the request
    assert not {response[0], response[1]} & {a, b, c, d}
    assert found.response[0] == VOCABULARY[response[0]]  # without a space, as before
    assert found.sample.prompt == one.sample.prompt


def test_rollouts_of_one_file_share_their_replacements_and_those_of_another_do_not():
    a, b = NAMES[:2]
    first, second = (rollout(f"{a} {b}", NAMES[5], response) for response in (a, b))
    other = rollout(f"{a} {b}", NAMES[5], a, file=1, seed=4)
    found = counterfactual([first, other, second], WORDS)
    assert found[0].sample.teacher_prompt == found[1].sample.teacher_prompt
    assert found[2].response != found[0].response
    assert found == counterfactual([first, other, second], WORDS)


def test_rollouts_without_a_word_from_the_knowledge_are_left_out():
    a, b, c = NAMES[:3]
    assert counterfactual([rollout(a, b, f"{c} 7")], WORDS) == []  # the word is the model's own
    assert counterfactual([rollout(a, b, "7 --")], WORDS) == []


def texts(most):
    return st.lists(st.sampled_from(sorted(VOCABULARY.values())), min_size=1, max_size=most)


@hypothesis_given(texts(40), texts(6), texts(10), st.integers(0, 2**32))
def test_replacement_keeps_lengths_equalities_and_the_words_of_the_request(knowledge, request, response, seed):
    one = Rollout(Sample("e/turn0", 0, request, [*knowledge, *request], 0, 0, seed), response, truncated=False)
    for found in counterfactual([one], WORDS):
        before, after = (*one.sample.teacher_prompt, *one.response), (*found.sample.teacher_prompt, *found.response)
        assert len(after) == len(before)
        mapping = dict(zip(before, after, strict=True))
        assert [mapping[number] for number in before] == list(after)  # one token, one replacement
        assert len(set(mapping.values())) == len(mapping)  # no two become one
        kept = WORDS.inside(request)
        assert all(mapping[number] == number for number in before if WORDS.inside([number]) <= kept)
        assert all(WORDS.inside([old]) and WORDS.inside([new]) for old, new in mapping.items() if old != new)


def test_a_vocabulary_without_words_is_refused():
    with pytest.raises(ConfigError, match=f"fewer than {FEWEST}.*in_context_weight"):
        Words.of(byte_tokenizer())


@pytest.fixture
def letters(monkeypatch):
    """The letters of the tests' byte tokenizer count as its words."""
    monkeypatch.setattr(module, "SHORTEST", 1)
    monkeypatch.setattr(module, "FEWEST", 10)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return tiny_model_folder(tmp_path_factory.mktemp("model"))


def test_term_is_the_whole_kl_of_both_models_with_other_knowledge(start, tmp_path, letters):
    retention = {"counterfactual_weight": 0.5, "counterfactual_files": 9}
    trainer, step = make_trainer(start, tmp_path, samples=8, max_response_tokens=24, retention=retention)
    words = Words.of(byte_tokenizer())
    assert_term(trainer, step, "counterfactual", lambda rollouts: counterfactual(rollouts, words))


def drift(folder, start):
    """How far the model with other knowledge than it was trained with is from what it was."""
    model, tokenizer = load_model(str(folder), arguments(start, start)["model"])
    words = Words.of(tokenizer)
    asked = [
        (prompt_ids(tokenizer, p.messages, thinking=False), prompt_ids(tokenizer, told, thinking=False))
        for p in prompts(1, 3)[0]
        for told in (with_knowledge(p.messages, text) for text in KNOWLEDGE)
    ]
    response = sorted({number for _, told in asked for number in told} - {n for bare, _ in asked for n in bare})
    rollouts = [
        Rollout(Sample(str(index), index, bare, told, index, index, index), response, truncated=False)
        for index, (bare, told) in enumerate(asked)
    ]
    others = counterfactual(rollouts, words)
    assert others
    with torch.no_grad():
        found = [divergence(model, tiny_model(), one.sample.teacher_prompt, one.response).mean() for one in others]
    return float(torch.stack(found).mean())


def test_term_keeps_how_other_knowledge_is_read(start, tmp_path, letters):
    changes = {"steps": 8, "samples": 6, "learning_rate": 2e-3, "max_response_tokens": 24}
    free = distill(**arguments(start, tmp_path / "free", **changes))
    retention = {"counterfactual_weight": 3.0, "counterfactual_files": 2}
    held = distill(**arguments(start, tmp_path / "held", retention=retention, **changes))
    assert drift(held, start) < 0.6 * drift(free, start)
    assert {name for record in lines(tmp_path / "held") for name in record.terms or ()} == {"counterfactual"}


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_a_killed_distillation_resumes_to_the_same_bytes(start, tmp_path, letters, lora):
    changes = {"retention": {"counterfactual_weight": 0.3}, "teacher": "ema", "lora": lora}
    whole = distill(**arguments(start, tmp_path / "whole", **changes))
    with pytest.raises(Abort):
        distill(**arguments(start, tmp_path / "cut", **changes), on_step=abort_at(3))
    assert files(distill(**arguments(start, tmp_path / "cut", **changes))) == files(whole)
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")
