"""The decode loop against transformers' `generate`, and across batch compositions."""

import itertools
import random

import pytest
import torch
from transformers import Qwen3ForCausalLM

from oel_core.config.sampling import Sampling
from oel_core.errors import PolicyError
from oel_core.policies.hf.decoding import sample_responses
from oel_core.policies.hf.prefill import pad_left, shared_prefix
from tests.drawing import assert_drawn
from tests.fakes import tiny_model
from tests.rounding import in_float64

pytestmark = pytest.mark.numeric

GREEDY = Sampling(temperature=0, max_tokens=12)
DRAWN = Sampling(temperature=1.0, top_p=0.95, top_k=50, max_tokens=24)
STOPS = range(3, 40)


@pytest.fixture(scope="module")
def model() -> Qwen3ForCausalLM:
    return tiny_model()


@pytest.fixture(scope="module")
def exact() -> Qwen3ForCausalLM:
    """Computes in float64, where what two paths differ by decides no token."""
    found: Qwen3ForCausalLM = in_float64(tiny_model())
    return found


def some_prompts(count: int, seed: int = 0, prefix: int = 0) -> list[list[int]]:
    source = random.Random(seed)
    shared = [source.randrange(3, 259) for _ in range(prefix)]
    return [shared + [source.randrange(3, 259) for _ in range(source.randrange(1, 20))] for _ in range(count)]


@pytest.mark.parametrize("prefix", [0, 3, 30])
def test_greedy_equals_generate(exact: Qwen3ForCausalLM, prefix: int) -> None:
    prompts = some_prompts(6, prefix=prefix)
    ours = sample_responses(exact, prompts, range(6), GREEDY, [2, 0], 0)
    for prompt, response in zip(prompts, ours, strict=True):
        theirs = exact.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=12, eos_token_id=[2, 0])
        assert theirs[0, len(prompt) :].tolist() == response


@pytest.mark.parametrize("prefix", [0, 30])
def test_a_request_alone_draws_what_it_draws_in_a_batch(exact: Qwen3ForCausalLM, prefix: int) -> None:
    prompts, seeds = some_prompts(9, seed=1, prefix=prefix), range(100, 109)
    together = sample_responses(exact, prompts, seeds, DRAWN, STOPS, 0)
    for prompt, seed, response in zip(prompts, seeds, together, strict=True):
        assert sample_responses(exact, [prompt], [seed], DRAWN, STOPS, 0) == [response]
    turned = sample_responses(exact, prompts[::-1], seeds[::-1], DRAWN, STOPS, 0)
    assert turned[::-1] == together
    assert len({len(response) for response in together}) > 3, "rows must have left the batch at different times"


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN, DRAWN.model_copy(update={"top_p": 1.0, "top_k": 0})])
@pytest.mark.parametrize("prefix", [0, 30])
def test_every_token_of_a_batch_is_one_that_the_model_may_draw(
    model: Qwen3ForCausalLM, prefix: int, sampling: Sampling
) -> None:
    prompts, seeds = some_prompts(9, seed=1, prefix=prefix), range(100, 109)
    together = sample_responses(model, prompts, seeds, sampling, STOPS, 0)
    for prompt, seed, response in zip(prompts, seeds, together, strict=True):
        assert_drawn(model, prompt, response, seed, sampling, STOPS)
        with pytest.raises(AssertionError):
            assert_drawn(model, prompt, [(token + 7) % 259 for token in response], seed, sampling, STOPS)


def test_the_seed_decides_the_draw(model: Qwen3ForCausalLM) -> None:
    prompt = some_prompts(1)[0]
    torch.manual_seed(1)
    first = sample_responses(model, [prompt] * 3, [5, 5, 6], DRAWN, [2], 0)
    torch.manual_seed(2)
    assert sample_responses(model, [prompt] * 3, [5, 5, 6], DRAWN, [2], 0) == first
    assert first[0] == first[1] != first[2]


def test_a_stop_token_is_the_last_id_and_the_cap_is_exact(model: Qwen3ForCausalLM) -> None:
    responses = sample_responses(model, some_prompts(16), range(16), DRAWN, STOPS, 0)
    ended = [response for response in responses if response[-1] in STOPS]
    cut = [response for response in responses if response[-1] not in STOPS]
    assert ended
    assert all(token not in STOPS for response in ended for token in response[:-1])
    assert all(len(response) == DRAWN.max_tokens for response in cut)
    one = sample_responses(model, some_prompts(4), range(4), Sampling(max_tokens=1), [2], 0)
    assert [len(response) for response in one] == [1] * 4


def test_a_model_in_training_is_read_without_dropout_and_put_back(model: Qwen3ForCausalLM) -> None:
    prompts = some_prompts(2)
    expected = sample_responses(model, prompts, [1, 2], DRAWN, [2], 0)
    model.config.attention_dropout = 0.5
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    model.train()
    try:
        assert sample_responses(model, prompts, [1, 2], DRAWN, [2], 0) == expected
        assert model.training
        loss = model(input_ids=torch.tensor([prompts[0]]), labels=torch.tensor([prompts[0]])).loss
        loss.backward()  # nothing of inference mode may be left in the model
    finally:
        for layer in model.model.layers:
            layer.self_attn.attention_dropout = 0.0
        model.zero_grad()
        model.eval()


def test_weights_that_are_not_finite_are_an_error() -> None:
    broken = tiny_model()
    with torch.no_grad():
        broken.lm_head.weight[5, 5] = float("nan")
    with pytest.raises(PolicyError, match="not finite"):
        sample_responses(broken, [[5, 6]], [0], DRAWN, [2], 0)


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN, Sampling(temperature=1.0, max_tokens=12)])
def test_states_that_stop_being_finite_in_mid_response_are_an_error(sampling: Sampling) -> None:
    model, calls = tiny_model(), itertools.count()

    def spoil(_module: torch.nn.Module, _given: object, logits: torch.Tensor) -> torch.Tensor | None:
        return torch.cat([logits[:1], logits[1:] * float("nan")]) if next(calls) == 3 else None

    model.lm_head.register_forward_hook(spoil)
    with pytest.raises(PolicyError, match="not finite"):
        sample_responses(model, [[5, 6], [7, 8]], [0, 1], sampling, [300], 0)


def test_no_prompts_no_responses(model: Qwen3ForCausalLM) -> None:
    assert sample_responses(model, [], [], GREEDY, [2], 0) == []


def test_padding_and_shared_prefix() -> None:
    ids, mask = pad_left([[5, 6, 7], [8]], 0)
    assert ids.tolist() == [[5, 6, 7], [0, 0, 8]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]
    assert shared_prefix([[1, 2, 3], [1, 2, 4], [1, 2, 3, 5]]) == 2
    assert shared_prefix([[1, 2], [1, 2], [1, 2]]) == 1, "every row keeps an id of its own"
    assert shared_prefix([[1], [2, 1]]) == 0
