"""Rollouts of a step: KV caches are reused between batches."""

import random

import pytest

from oel_core.config.sampling import Sampling
from oel_core.distillation.data.dataset import Sample
from oel_core.distillation.training.rollouts import Sampler, Tokens
from tests.fakes import tiny_model
from tests.policies.hf.test_prefill import tokens_read
from tests.rounding import in_float64

TOKENS = Tokens(pad=0, stops=frozenset({2}))
SAMPLING = Sampling(temperature=1.0, max_tokens=6)


def episode(turns: int) -> list[Sample]:
    """Prompts of one episode: 100 tokens, and 80 more a turn."""
    source, prompt, samples = random.Random(0), list[int](), []
    for turn in range(turns):
        prompt = prompt + source.choices(range(3, 259), k=80 if turn else 100)
        samples.append(Sample(f"e{turn}", turn, prompt, prompt, 0, 0, seed=turn))
    return samples


@pytest.mark.numeric
def test_longer_prompts_start_from_the_shorter_ones_that_they_continue() -> None:
    model, samples = in_float64(tiny_model()), episode(3)
    with tokens_read(model) as seen:
        found = Sampler(SAMPLING, TOKENS, 1).roll_out(model, samples[::-1])
    assert [read for read in seen if read > 1] == [100, 80, 80]
    with tokens_read(model) as seen:
        alone = Sampler(SAMPLING, TOKENS, 1, prefix_cache_tokens=0).roll_out(model, samples[::-1])
    assert [read for read in seen if read > 1] == [100, 180, 260]
    assert found == alone
    assert [rollout.sample.index for rollout in found] == [2, 1, 0]
