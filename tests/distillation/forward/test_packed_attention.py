"""Attention by matrix products over blocks of queries."""

import pytest
import torch

from oel_core.distillation.forward.packed_attention import _plain_with_lse

pytestmark = pytest.mark.numeric


@pytest.mark.parametrize("causal", [True, False])
def test_blocks_of_queries_change_nothing(monkeypatch, causal):
    """Queries and keys are small whole numbers, so that scores have no rounding; an output is a mean of 9 values."""
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randint(-2, 3, (1, heads, 9, 8), generator=generator).float() for heads in (4, 2))
    value = torch.rand(1, 2, 9, 8, generator=generator)
    whole, lse = _plain_with_lse(query, key, value, None, 0.5, causal=causal)
    monkeypatch.setattr("oel_core.distillation.forward.packed_attention._SCORES", 4 * 9 * 2)  # two queries at a time
    parts, lse_of_parts = _plain_with_lse(query, key, value, None, 0.5, causal=causal)
    rounding = 9 * torch.finfo(torch.float32).eps
    torch.testing.assert_close(parts, whole, atol=rounding, rtol=0)
    torch.testing.assert_close(lse_of_parts, lse, atol=rounding * lse.abs().max().item(), rtol=0)

    scores = torch.einsum("bhnd,bhmd->bhnm", query, key.repeat_interleave(2, dim=1)) * 0.5
    seen = torch.ones(9, 9, dtype=torch.bool)
    scores = scores.masked_fill(~(seen.tril() if causal else seen), -torch.inf)
    wanted = torch.einsum("bhnm,bhmd->bhnd", scores.softmax(-1), value.repeat_interleave(2, dim=1))
    magnitude = scores[scores.isfinite()].abs().max().item() + 1  # of an exponent, whose rounding its power takes over
    torch.testing.assert_close(whole, wanted, atol=rounding * magnitude, rtol=0)
