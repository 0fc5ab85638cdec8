"""Sizes of causal language models from their configurations alone, without weights.

The model is built on the meta device, which has shapes and no numbers: whatever architecture transformers knows is
counted as transformers builds it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

MAX_LAYERS: Final = 1000
"""A configuration with more is a mistake, and building it could take all memory."""


@dataclass(frozen=True)
class Architecture:
    """The sizes that determine a model's memory."""

    parameters: int
    """All of them, tied ones once."""
    vocabulary: int
    hidden: int
    intermediate: int
    """Width within a block's feed-forward layer; of a mixture of experts, within one of them."""
    layers: int
    queries: int
    """Width of all query heads together."""
    keys: int
    """Width of all key heads together; values have the same."""
    linears: Mapping[str, tuple[int, int]]
    """Linear layers except the output projection: name within the model → (inputs, outputs)."""

    def adapter_parameters(self, rank: int, modules: tuple[str, ...] | str) -> int:
        """Parameters of a low-rank adapter on the linear layers with these last names ("all-linear": all of them)."""
        return sum(
            rank * (inputs + outputs)
            for name, (inputs, outputs) in self.linears.items()
            if modules == "all-linear" or any(f".{name}".endswith(f".{module}") for module in modules)
        )

    @property
    def cache_values(self) -> int:
        """Numbers per token in the KV cache, if every layer caches it."""
        return 2 * self.layers * self.keys


def meta_model(values: Mapping[str, Any]) -> "PreTrainedModel | None":
    """The model of a `config.json` on the meta device, or None where transformers cannot build one from it."""
    from transformers import AutoConfig  # takes a second to import

    kind = str(values.get("model_type"))
    try:
        config = AutoConfig.for_model(kind, **{name: value for name, value in values.items() if name != "model_type"})
        return build_on_meta(config) if 0 < config.get_text_config().num_hidden_layers <= MAX_LAYERS else None
    except Exception:  # each architecture refuses impossible numbers in its own way
        return None


def build_on_meta(config: "PretrainedConfig") -> "PreTrainedModel":
    """A causal language model with shapes and no numbers. Raises what transformers raises for impossible ones."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    return model


def read_architecture(values: Mapping[str, Any]) -> Architecture | None:
    """The sizes of the model that a `config.json` describes, or None where transformers cannot build it."""
    model = meta_model(values)
    return None if model is None else _measure(model)


def _measure(model: "PreTrainedModel") -> Architecture | None:
    """None for a model whose configuration lacks width and heads, such as one without attention."""
    config: Any = model.config.get_text_config()
    heads = getattr(config, "num_attention_heads", None)
    hidden = getattr(config, "hidden_size", None)
    if not isinstance(heads, int) or not isinstance(hidden, int):
        return None
    head_dim = getattr(config, "head_dim", None) or hidden // heads
    return Architecture(
        parameters=sum(weight.numel() for weight in model.parameters()),
        vocabulary=config.vocab_size,
        hidden=hidden,
        intermediate=getattr(config, "intermediate_size", None) or 4 * hidden,
        layers=config.num_hidden_layers,
        queries=heads * head_dim,
        keys=(getattr(config, "num_key_value_heads", None) or heads) * head_dim,
        linears=_linears(model),
    )


def _linears(model: "PreTrainedModel") -> dict[str, tuple[int, int]]:
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    last = model.get_output_embeddings()
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module is not last:
            found[name] = (module.in_features, module.out_features)
        elif isinstance(module, Conv1D):  # GPT-2's
            found[name] = (module.nx, module.nf)
    return found


def _qwen3(hidden: int, intermediate: int, layers: int, heads: int, *, tied: bool) -> dict[str, Any]:
    return {
        "model_type": "qwen3",
        "vocab_size": 151936,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "tie_word_embeddings": tied,
    }


KNOWN: Final[Mapping[str, Mapping[str, Any]]] = {
    "Qwen/Qwen3-0.6B": _qwen3(1024, 3072, 28, 16, tied=True),
    "Qwen/Qwen3-1.7B": _qwen3(2048, 6144, 28, 16, tied=True),
    "Qwen/Qwen3-4B": _qwen3(2560, 9728, 36, 32, tied=True),
    "Qwen/Qwen3-4B-Instruct-2507": _qwen3(2560, 9728, 36, 32, tied=True),
    "Qwen/Qwen3-8B": _qwen3(4096, 12288, 36, 32, tied=False),
    "smollm2-135m": {
        "model_type": "llama",
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "tie_word_embeddings": True,
    },
}
"""What decides the sizes of models that presets name, for where neither a folder nor the hub can be asked. From their
published config.json."""


@cache
def known_architecture(path: str) -> Architecture | None:
    """The sizes of one of `KNOWN`, or None for any other."""
    return read_architecture(KNOWN[path]) if path in KNOWN else None
