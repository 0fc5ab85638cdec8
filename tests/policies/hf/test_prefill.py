"""Prefill from cached prefixes against prefill of whole prompts."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, Lfm2Config, Lfm2ForCausalLM, Qwen3ForCausalLM

from oel_core.config.sampling import Sampling
from oel_core.policies.hf import prefill as prefill_module
from oel_core.policies.hf.decoding import sample_responses
from oel_core.policies.hf.prefill import Prefilled, prefill
from oel_core.policies.hf.prefix_cache import CachedSequence, PrefillCache
from tests.fakes import TINY_SIZES, tiny_model
from tests.rounding import forward_rounding, in_float64, require_bfloat16_attention

pytestmark = pytest.mark.numeric

DRAWN = Sampling(temperature=1.0, max_tokens=10)
STOPS = range(3, 30)
ROOM = 100_000
SYSTEM = list(range(30, 130))


@pytest.fixture(scope="module")
def exact() -> Any:
    return in_float64(tiny_model())


@pytest.fixture(scope="module")
def model() -> Qwen3ForCausalLM:
    return tiny_model()


def words(source: random.Random, most: int, least: int = 1) -> list[int]:
    return [source.randrange(130, 259) for _ in range(source.randint(least, most))]


def next_prompt(kind: str, prompt: list[int], response: list[int], source: random.Random) -> list[int]:
    """What a template makes of the turn before, and a new observation."""
    said = {
        "continued": prompt + response,
        "retokenised": [*prompt, *response[:-1], 129, 128],  # the response's text, read as other tokens
        "rewritten": prompt[: -source.randint(1, 4)] + response,  # thinking is cut from earlier turns
        "cut": SYSTEM,  # play.history_turns: 0
        "another": [],
    }[kind]
    return said + words(source, 30)


@contextmanager
def tokens_read(model: Any) -> Iterator[list[int]]:
    """Tokens, padding included, of every forward."""
    seen: list[int] = []
    hook = model.get_input_embeddings().register_forward_hook(lambda _, given, __: seen.append(given[0].numel()))
    try:
        yield seen
    finally:
        hook.remove()


@settings(max_examples=40, deadline=None)
@given(
    kinds=st.lists(
        st.lists(st.sampled_from(["continued", "retokenised", "rewritten", "cut", "another"]), min_size=2, max_size=2),
        min_size=1,
        max_size=5,
    ),
    seed=st.integers(0, 1000),
    worth=st.sampled_from([1, 20, 64]),
    capacity=st.sampled_from([0, 150, 400, ROOM]),
)
def test_tokens_are_those_of_a_full_prefill(
    exact: Any, kinds: list[list[str]], seed: int, worth: int, capacity: int
) -> None:
    # in float64 a uniform number would have to lie within 1e-12 of a border between two tokens
    source, held = random.Random(seed), PrefillCache.of(capacity)
    prompts = [SYSTEM[: source.choice([0, 5, 100])] + words(source, 40) for _ in kinds]
    with patch.object(prefill_module, "WORTH_REUSING", worth):
        for turn in range(3):
            seeds = [100 * turn + row for row in range(len(prompts))]
            found = sample_responses(exact, prompts, seeds, DRAWN, STOPS, 0, held)
            assert found == sample_responses(exact, prompts, seeds, DRAWN, STOPS, 0)
            assert held.sequences.tokens <= capacity
            if turn < 2:
                prompts = [
                    next_prompt(kind[turn], prompt, response, source)
                    for kind, prompt, response in zip(kinds, prompts, found, strict=True)
                ]


def conversation(model: Any, held: PrefillCache, rows: int = 4) -> list[list[int]]:
    """Prompts of unequal lengths that continue a first turn, which `held` has seen."""
    source = random.Random(3)
    prompts = [SYSTEM + words(source, 60) for _ in range(rows)]
    responses = sample_responses(model, prompts, range(rows), DRAWN, STOPS, 0, held)
    return [next_prompt("continued", *pair, source) for pair in zip(prompts, responses, strict=True)]


@torch.inference_mode()
def read(model: Any, prompts: Sequence[Sequence[int]], held: PrefillCache) -> Prefilled:
    return prefill(model, [tuple(prompt) for prompt in prompts], 0, ROOM, held)


def test_logits_differ_by_rounding_only(model: Qwen3ForCausalLM) -> None:
    held = PrefillCache.of(ROOM)
    prompts = conversation(model, held)
    with tokens_read(model) as cached:
        found = read(model, prompts, held)
    full = read(model, prompts, PrefillCache())
    bound = forward_rounding(model, full.logits, max(map(len, prompts)))
    assert sum(cached) < len(prompts) * 50, "the prompts were not read from cached sequences"
    torch.testing.assert_close(found.logits, full.logits, rtol=0, atol=bound)
    assert found.positions.tolist() == full.positions.tolist() == [len(prompt) for prompt in prompts]


def test_a_turn_reads_what_is_new_of_it(model: Qwen3ForCausalLM) -> None:
    held = PrefillCache.of(ROOM)
    prompts = conversation(model, held)
    known = [held.sequences.longest(tuple(prompt)) for prompt in prompts]
    rest = [len(prompt) - start.length for prompt, start in zip(prompts, known, strict=True) if start]
    with tokens_read(model) as seen:
        read(model, prompts, held)
    assert seen == [len(prompts) * max(rest)]
    assert max(rest) <= 31 + 1  # the observation, and a last token that was drawn but not fed
    assert held.sequences.tokens == 0, "sequences that are read on are not held twice"


def test_prompts_of_which_only_the_system_text_is_known_share_it(model: Qwen3ForCausalLM) -> None:
    held = PrefillCache.of(ROOM)
    conversation(model, held)
    source = random.Random(0)
    prompts = [SYSTEM + words(source, 30, 30) for _ in range(4)]
    with tokens_read(model) as seen:
        read(model, prompts, held)
        read(model, prompts[:1], held)
    assert seen == [4 * 30, 30], "the beginning of all four was held, and the single prompt took it from a sequence"


def test_groups_of_prompts_share_their_own_knowledge(model: Qwen3ForCausalLM) -> None:
    source = random.Random(0)
    knowledge = [words(source, 200, 200) for _ in range(2)]
    prompts = [SYSTEM + knowledge[row % 2] + words(source, 20, 20) for row in range(6)]
    prompts.append(SYSTEM + words(source, 20, 20))
    with tokens_read(model) as seen:
        found = read(model, prompts, PrefillCache())
    assert sorted(seen) == [100, 7 * 20, 300, 300]
    alone = torch.cat([read(model, [prompt], PrefillCache()).logits for prompt in prompts])
    torch.testing.assert_close(found.logits, alone, rtol=0, atol=forward_rounding(model, alone, 320))


def test_rows_start_from_the_beginnings_that_are_given(exact: Any) -> None:
    files = [SYSTEM + [140 + index] * 80 for index in range(3)]
    prompts = [tuple(files[row % 2] + [200 + row] * (row + 1)) for row in range(4)]
    given_files = cached(exact, files)
    with tokens_read(exact) as seen:
        answered = sample_responses(exact, prompts, range(4), DRAWN, STOPS, 0, PrefillCache(given=given_files))
    assert seen[0] == 4 * 4  # the longest rest of each row, and no file
    assert answered == sample_responses(exact, prompts, range(4), DRAWN, STOPS, 0)


def test_a_beginning_that_is_the_whole_prompt_is_not_one(exact: Any) -> None:
    prompts = [tuple(SYSTEM), tuple(SYSTEM[:90])]
    held = PrefillCache(given=cached(exact, [SYSTEM]))
    assert sample_responses(exact, prompts, [0, 1], DRAWN, STOPS, 0, held) == sample_responses(
        exact, prompts, [0, 1], DRAWN, STOPS, 0
    )


def cached(model: Any, sequences: Sequence[Sequence[int]]) -> list[CachedSequence]:
    """Keys and values of sequences, each read alone."""
    found = []
    for ids in sequences:
        cache = model(input_ids=torch.tensor([list(ids)]), use_cache=True).past_key_values
        found.append(CachedSequence(tuple(ids), tuple((part.keys[0], part.values[0]) for part in cache.layers)))
    return found


def test_what_beginnings_are_held_changes_no_bit() -> None:
    require_bfloat16_attention()
    model, source = tiny_model().bfloat16(), random.Random(0)
    held = PrefillCache.of(ROOM)
    others = [SYSTEM + words(source, 30) for _ in range(3)]
    prompts = [SYSTEM + words(source, 30) for _ in range(5)]
    cold = read(model, prompts, PrefillCache())
    read(model, others, held)
    with tokens_read(model) as seen:
        warm = read(model, prompts, held)
    assert len(seen) == 1, "the beginning was not held"
    assert torch.equal(warm.logits, cold.logits)


def gemma() -> Any:
    """A window of 8 tokens in every other layer."""
    config = Gemma3TextConfig(
        **TINY_SIZES,
        head_dim=16,
        sliding_window=8,
        layer_types=["sliding_attention", "full_attention"],
    )
    return Gemma3ForCausalLM(config).eval()


def hybrid() -> Any:
    """A short convolution, whose state is no list of keys, and attention."""
    config = Lfm2Config(
        **TINY_SIZES,
        layer_types=["conv", "full_attention"],
    )
    return Lfm2ForCausalLM(config).eval()


@pytest.mark.parametrize("make", [gemma, hybrid])
def test_models_whose_states_cannot_be_cut_read_prompts_whole(make: Callable[[], Any]) -> None:
    torch.manual_seed(0)
    model, held = make(), PrefillCache.of(ROOM)
    prompts = conversation(model, held)
    assert held.sequences.tokens == held.prefixes.tokens == 0
    found = read(model, prompts, held).logits
    for prompt, logits in zip(prompts, found, strict=True):
        with torch.no_grad():
            alone = model(torch.tensor([prompt])).logits[0, -1]
        torch.testing.assert_close(logits, alone, rtol=0, atol=forward_rounding(model, alone, len(prompt)))


def test_the_output_projection_gets_contiguous_hidden_states(model: Qwen3ForCausalLM) -> None:
    """A slice of each row's last position is multiplied row by row, with a copy of the weights for each."""
    seen = []
    hook = model.lm_head.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    prompts = [tuple(range(30, 30 + length)) for length in (9, 12, 7)]
    prefill(model, prompts, 0, 64, PrefillCache(ROOM))
    hook.remove()
    assert [part.shape[:2] for part in seen][-1] == (3, 1)
    assert all(part.is_contiguous() for part in seen)
    assert not model.lm_head._forward_pre_hooks
