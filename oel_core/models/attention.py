"""Temporarily replaces a model's attention function."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import PreTrainedModel

from oel_core.compat.transformers import attention_implementations


@contextmanager
def attention_set_to(model: Any, name: str, *, instead_of: str | None = None) -> Iterator[None]:
    """Dispatches attention to the function registered as `name` (transformers' `AttentionInterface`).

    A model whose code does not dispatch through that interface keeps its own attention (see `attends_by`).

    Args:
        model: a transformers model, or a module that holds one (an adapter).
        name: of the attention function.
        instead_of: replace only in sub-models that use this attention function; None means in all.
    """
    root = next(module for module in model.modules() if isinstance(module, PreTrainedModel))
    before = {part: own for part, own in attention_implementations(root).items() if instead_of in (None, own)}
    if not before:
        yield
        return
    root.set_attn_implementation(dict.fromkeys(before, name))
    try:
        yield
    finally:
        root.set_attn_implementation(before)


def attends_by(model: Any, name: str) -> bool:
    """Whether some sub-model currently uses the attention function registered as `name`."""
    root = next(module for module in model.modules() if isinstance(module, PreTrainedModel))
    return name in attention_implementations(root).values()
