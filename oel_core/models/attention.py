"""Switching a model's attention function for a while."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import PreTrainedModel

from oel_core.compat.transformers import attention_implementations


@contextmanager
def attention_set_to(model: Any, name: str, *, instead_of: str | None = None) -> Iterator[None]:
    """Dispatches attention to the function registered as `name` (transformers' `AttentionInterface`).

    A model whose code does not dispatch through that interface keeps its own attention.

    Args:
        model: a transformers model, or a module that holds one (an adapter).
        name: of the attention function.
        instead_of: only in the sub-models whose attention function is this one; None means in all.
    """
    root = next(module for module in model.modules() if isinstance(module, PreTrainedModel))
    before = attention_implementations(root)
    root.set_attn_implementation(
        {part: name if instead_of in (None, current) else current for part, current in before.items()}
    )
    try:
        yield
    finally:
        root.set_attn_implementation(before)
