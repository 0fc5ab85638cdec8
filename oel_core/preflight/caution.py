"""Warnings about settings that are known to be unstable; they do not prevent a run."""

from pathlib import Path

from oel_core.config.run import OelConfig
from oel_core.errors import OelError
from oel_core.models.architectures import KNOWN
from oel_core.models.checkpoints import CONFIG, adapter_base, is_adapter, read_json, resolve_model
from oel_core.models.hub import cached_file

SMALL_SHARE = 0.01
"""Share of the vocabulary; with a smaller top-k, probability mass can move out of it unnoticed by the loss."""
HOT = 0.9
"""Temperature from which on there is considerable mass outside the top-k at the start."""
FAST_ADAPTER, FAST_WEIGHTS = 5e-5, 1e-5
"""Learning rates that are high for LoRA and for full fine-tuning."""


def vocabulary_here(path: str) -> int | None:
    """Vocabulary size from a local `config.json` or a known architecture, else None."""
    try:
        source = resolve_model(path)
        if isinstance(source, Path) and is_adapter(source):
            return vocabulary_here(adapter_base(source))
        file = source / CONFIG if isinstance(source, Path) else cached_file(source, CONFIG)
        values = read_json(file) if file is not None else {}
    except OelError:
        values = {}
    size = values.get("vocab_size") or (values.get("text_config") or {}).get("vocab_size")
    return int(size) if size else KNOWN.get(path, {}).get("vocab_size")


def find_cautions(config: OelConfig) -> list[str]:
    """One sentence per setting that is known to be unstable; a vocabulary of unknown size counts as large.

    The paper's objective is stable with its own small learning rate. With LoRA at a high rate, temperature 1 and 64 of
    151,936 tokens a model collapsed within 12 steps (docs/distillation.md).
    """
    distill = config.distill
    if distill.objective != "reverse_kl_top_k" or distill.regime == "sft":
        return []
    size = vocabulary_here(config.model.path)
    fast = FAST_WEIGHTS if config.model.lora is None else FAST_ADAPTER
    few = size is None or distill.top_k < SMALL_SHARE * size
    if not few or distill.temperature < HOT or distill.learning_rate <= fast:
        return []
    return [
        f"distill.objective=reverse_kl_top_k counts {distill.top_k} of {size or 'an unknown number of'} tokens, at "
        f"temperature {distill.temperature:g} and the rate {distill.learning_rate:g}: the student may move its mass to "
        "tokens that are not counted and come apart. Set distill.objective=reverse_kl_tail, or a rate of at most "
        f"{fast:g}"
    ]
