"""What makes decoding cheap changes nothing but rounding: the roomy cache, and attention without repeated keys."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache, Gemma3TextConfig, Qwen3Config
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from oel_core.models.attention import attention_set_to
from oel_core.policies.hf import grouped_attention
from oel_core.policies.hf.grouped_attention import attend
from oel_core.policies.hf.kv_cache import PreallocatedLayer, preallocated_cache
from tests.fakes import tiny_model
from tests.rounding import rounding

pytestmark = pytest.mark.numeric

CONFIG = Qwen3Config(num_hidden_layers=2)
LONGEST = 60
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 6)),
        st.tuples(st.just("keep"), st.lists(st.integers(0, 3), min_size=1, max_size=3)),
    ),
    max_size=10,
)


@settings(max_examples=60, deadline=None)
@given(first=st.integers(1, 6), rows=st.integers(1, 4), steps=STEPS)
def test_a_roomy_cache_gives_what_transformers_own_gives(first: int, rows: int, steps: list[tuple[str, Any]]) -> None:
    plain, roomy = DynamicCache(config=CONFIG), preallocated_cache(CONFIG, LONGEST)
    numbers = torch.Generator().manual_seed(0)

    def add(rows: int, tokens: int) -> None:
        keys, values = torch.randn(2, rows, 2, tokens, 4, generator=numbers)
        for layer in range(2):
            for wanted, found in zip(plain.update(keys, values, layer), roomy.update(keys, values, layer), strict=True):
                assert torch.equal(wanted, found)
        assert roomy.get_seq_length() == plain.get_seq_length()

    add(1, first)
    for cache in (plain, roomy):
        cache.batch_repeat_interleave(rows)
    for what, value in steps:
        if what == "add":
            add(rows, value)
            continue
        chosen = torch.tensor([row % rows for row in value])
        rows = len(chosen)
        for cache in (plain, roomy):
            cache.batch_select_indices(chosen)
    add(rows, 1)


def test_a_token_is_written_into_room_that_is_there_and_room_ends_at_the_longest() -> None:
    layer, sizes, places = PreallocatedLayer(LONGEST), set(), set()
    layer.update(*torch.zeros(2, 1, 1, 20, 4))
    for _ in range(40):
        keys, _ = layer.update(*torch.zeros(2, 1, 1, 1, 4))
        places.add(keys.data_ptr())
        sizes.add(keys.untyped_storage().nbytes() // 16)
    assert len(places) < 7  # 40 tokens, each of which DynamicLayer would have copied everything for
    assert max(sizes) == LONGEST


def test_layers_that_keep_a_window_stay_as_they_are() -> None:
    config = Gemma3TextConfig(num_hidden_layers=2, layer_types=["sliding_attention", "full_attention"])
    own, full = preallocated_cache(config, LONGEST).layers
    assert not isinstance(own, PreallocatedLayer)
    assert own.is_sliding
    assert isinstance(full, PreallocatedLayer)


class Head(torch.nn.Module):
    """What an attention function sees of its layer."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.num_key_value_groups = groups
        self.is_causal = True


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("queries", [1, 3])
@pytest.mark.parametrize("groups", [1, 3])
def test_grouped_attention_is_transformers_own(groups: int, queries: int, padded: bool) -> None:
    numbers = torch.Generator().manual_seed(0)
    query = torch.randn(4, 2 * groups, queries, 8, generator=numbers)
    keys, values = torch.randn(2, 4, 2, 11, 8, generator=numbers)
    mask = torch.ones(4, 1, queries, 11, dtype=torch.bool)
    mask[1, ..., :5] = mask[2, ..., :1] = False
    given = (Head(groups), query, keys, values, mask if padded else None)
    found, _ = attend(*given, scaling=0.3)
    wanted, _ = sdpa_attention_forward(*given, scaling=0.3)
    assert found.shape == wanted.shape == (4, queries, 2 * groups, 8)
    scores = (query @ keys.repeat_interleave(groups, dim=1).mT).abs().max() * 0.3
    bound = rounding(float(values.abs().max() * (1 + scores)), 8 + 11)  # of a dot product over 8 and a mean over 11
    torch.testing.assert_close(found, wanted, rtol=0, atol=bound)


def test_no_keys_are_repeated_for_one_new_token(monkeypatch: pytest.MonkeyPatch) -> None:
    def theirs(*given: Any, **more: Any) -> None:
        raise AssertionError("transformers' own was asked")

    monkeypatch.setattr(grouped_attention, "sdpa_attention_forward", theirs)
    attend(Head(2), torch.zeros(1, 4, 1, 8), *torch.zeros(2, 1, 2, 5, 8), None)
    with pytest.raises(AssertionError, match="transformers' own"):
        attend(Head(2), torch.zeros(1, 4, 2, 8), *torch.zeros(2, 1, 2, 5, 8), None)


def test_attention_is_lent_and_given_back() -> None:
    model = tiny_model()
    before = model.config._attn_implementation
    with attention_set_to(model, grouped_attention.NAME, instead_of="eager"):
        assert model.config._attn_implementation == before == "sdpa"
    with attention_set_to(model, grouped_attention.NAME, instead_of="sdpa"):
        assert model.config._attn_implementation == grouped_attention.NAME
    assert model.config._attn_implementation == before
