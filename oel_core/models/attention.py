"""Lending a model another attention function for a while."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import PreTrainedModel


@contextmanager
def attending_by(model: Any, name: str, *, instead_of: str | None = None) -> Iterator[None]:
    """Attention goes through the registered function `name`.

    Args:
        model: a transformers model, or a module that holds one.
        instead_of: leaves parts alone that attend in another way than this.
    """
    parts = [module for module in model.modules() if isinstance(module, PreTrainedModel)]
    configs = {id(part.config): part.config for part in parts}.values()
    chosen = [config for config in configs if instead_of in (None, config._attn_implementation)]
    before = [config._attn_implementation for config in chosen]
    for config in chosen:
        config._attn_implementation = name
    try:
        yield
    finally:
        for config, implementation in zip(chosen, before, strict=True):
            config._attn_implementation = implementation
