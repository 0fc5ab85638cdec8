"""Token sampling against plain implementations and against expected frequencies."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oel_core.config.sampling import Sampling
from oel_core.policies.sampling import invert, nucleus, sample_tokens, uniforms
from tests.drawing import possible
from tests.rounding import rounding

pytestmark = pytest.mark.numeric

logit_rows = st.lists(
    st.floats(-8, 8, width=32).map(lambda value: round(value, 2)), min_size=2, max_size=12, unique=True
)
units = st.floats(0, 1, exclude_max=True)


def plain_draw(logits: list[float], uniform: float, sampling: Sampling) -> int:
    """The token that a loop over sorted tokens draws."""
    order = sorted(range(len(logits)), key=lambda token: -logits[token])
    if sampling.temperature == 0:
        return order[0]
    order = order[: sampling.top_k or None]
    exponentials = [math.exp((logits[token] - logits[order[0]]) / sampling.temperature) for token in order]
    kept: list[tuple[int, float]] = []
    for token, value in zip(order, exponentials, strict=True):
        if sum(weight for _, weight in kept) < sampling.top_p:
            kept.append((token, value / sum(exponentials)))
    if sampling.top_k in (0, len(logits)) and sampling.top_p >= 1:
        kept.sort()
    target, passed = uniform * sum(weight for _, weight in kept), 0.0
    for token, weight in kept:
        passed += weight
        if target < passed:
            return token
    return kept[-1][0]


@given(
    logit_rows,
    units,
    st.sampled_from([0.0, 0.3, 0.7, 1.0, 2.0]),
    st.sampled_from([0, 1, 2, 5, 100]),
    st.sampled_from([0.31, 0.81, 0.97, 1.0]),
)
def test_draw_agrees_with_a_plain_loop(
    logits: list[float], uniform: float, temperature: float, top_k: int, top_p: float
) -> None:
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    drawn = sample_tokens(torch.tensor([logits]), torch.tensor([uniform], dtype=torch.float64), sampling)
    may = possible(torch.tensor(logits), uniform, sampling)
    assert {int(drawn), plain_draw(logits, uniform, sampling)} <= may


@given(st.lists(logit_rows, min_size=1, max_size=1), st.lists(units, min_size=2, max_size=6))
def test_rows_do_not_touch_each_other(rows: list[list[float]], uniform: list[float]) -> None:
    sampling = Sampling(temperature=0.8, top_p=0.9, top_k=4)
    logits = torch.tensor(rows * len(uniform))
    together = sample_tokens(logits, torch.tensor(uniform, dtype=torch.float64), sampling)
    for token, one in zip(together.tolist(), uniform, strict=True):
        alone = sample_tokens(logits[:1], torch.tensor([one], dtype=torch.float64), sampling)
        assert {token, int(alone)} <= possible(logits[0], one, sampling)


@given(logit_rows, st.sampled_from([0, 3]), st.sampled_from([0.9, 1.0]))
def test_nearly_every_uniform_draws_one_token_only(logits: list[float], top_k: int, top_p: float) -> None:
    """What the tests here allow for rounding is next to nothing: a wrong token is not let through."""
    sampling = Sampling(temperature=0.7, top_k=top_k, top_p=top_p)
    grid = [(place + 0.5) / 100 for place in range(100)]
    assert sum(len(possible(torch.tensor(logits), one, sampling)) > 1 for one in grid) <= len(logits)


def test_drawn_shares_are_the_softmax() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]])
    grid = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    counts = torch.bincount(sample_tokens(logits.expand(20_000, -1), grid, Sampling(temperature=0.7)), minlength=4)
    bound = 1 / 20_000 + rounding(1 + 3 / 0.7, 4)  # the grid's own, and that of a share whose exponent is up to 3 / 0.7
    torch.testing.assert_close(counts / 20_000, (logits[0] / 0.7).softmax(-1), atol=bound, rtol=0)


@pytest.mark.parametrize("uniform", [0.0, math.nextafter(1.0, 0.0)])
def test_the_ends_of_the_unit_interval_never_draw_an_impossible_token(uniform: float) -> None:
    weights = torch.tensor([[0.0, 0.1, 0.0, 0.7, 0.0]])
    assert int(invert(weights, torch.tensor([uniform], dtype=torch.float64))) in (1, 3)


def test_nucleus_keeps_the_token_that_crosses_the_border_and_always_the_first() -> None:
    rows = torch.tensor([[0.5, 0.25, 0.125, 0.125]])
    assert (nucleus(rows, 0.5) > 0).tolist() == [[True, False, False, False]]
    assert (nucleus(rows, 0.51) > 0).tolist() == [[True, True, False, False]]
    assert (nucleus(rows, 1e-9) > 0).tolist() == [[True, False, False, False]]


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=5, unique=True), st.integers(1, 40))
def test_uniforms_depend_on_their_seed_alone(seeds: list[int], count: int) -> None:
    rows = uniforms(seeds, count)
    assert ((rows >= 0) & (rows < 1)).all()
    for row, seed in zip(rows, seeds, strict=True):
        assert np.array_equal(row, uniforms([seed], count + 3)[0, :count])


def test_uniforms_are_spread_and_pinned() -> None:
    rows = uniforms(range(200), 100)
    assert abs(rows.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(rows[:-1].ravel(), rows[1:].ravel())[0, 1]) < 0.02
    # a change of these numbers changes every recorded run
    assert uniforms([7], 2)[0].tolist() == [0.8720734548204873, 0.29536538151378355]
