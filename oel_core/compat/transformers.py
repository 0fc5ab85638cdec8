"""Properties that transformers exposes through private attributes only, and its process-wide progress bars."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import logging


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Disables transformers' progress bars."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def attention_implementations(model: PreTrainedModel) -> dict[str, str]:
    """The attention functions of a model and its sub-models, as `set_attn_implementation` takes them."""
    config = model.config
    parts = {"": config} | {key: getattr(config, key) for key in config.sub_configs if getattr(config, key, None)}
    return {key: str(part._attn_implementation) for key, part in parts.items()}


def layer_class_names(model: Any) -> frozenset[str]:
    """Class names of the layers, which sharding must not split."""
    return frozenset(getattr(model, "_no_split_modules", None) or ())


def revision_of(config: PreTrainedConfig) -> str | None:
    """The commit of the hub repository that a configuration was loaded from."""
    commit: str | None = getattr(config, "_commit_hash", None)
    return commit
