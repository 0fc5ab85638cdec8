"""Sizes of transformer language models from their configurations alone, without weights.

The formulas are those of the Llama family (Llama, Mistral, Qwen2, Qwen3, SmolLM2): grouped-query attention, a gated
feed-forward layer, root-mean-square norms. Other architectures are not guessed at.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

FAMILY: Final = frozenset({"llama", "mistral", "qwen2", "qwen3"})


@dataclass(frozen=True)
class Architecture:
    """The numbers that decide a model's size."""

    vocabulary: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    tied: bool
    """Input and output embeddings are one matrix."""
    qk_norm: bool = False
    """Queries and keys have norms of their own (Qwen3)."""
    qkv_bias: bool = False
    output_bias: bool = False
    """Of the attention's output projection."""
    mlp_bias: bool = False
    positions: int = 0
    """Longest sequence; 0 is unknown."""

    @property
    def queries(self) -> int:
        """Width of all query heads together."""
        return self.heads * self.head_dim

    @property
    def keys(self) -> int:
        """Width of all key heads together; values have the same."""
        return self.kv_heads * self.head_dim

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """Linear layers of one block: name → (inputs, outputs)."""
        return {
            "q_proj": (self.hidden, self.queries),
            "k_proj": (self.hidden, self.keys),
            "v_proj": (self.hidden, self.keys),
            "o_proj": (self.queries, self.hidden),
            "gate_proj": (self.hidden, self.intermediate),
            "up_proj": (self.hidden, self.intermediate),
            "down_proj": (self.intermediate, self.hidden),
        }

    @property
    def parameters(self) -> int:
        """All parameters, tied ones once."""
        biases = self.qkv_bias * (self.queries + 2 * self.keys) + self.output_bias * self.hidden
        biases += self.mlp_bias * (2 * self.intermediate + self.hidden)
        norms = 2 * self.hidden + self.qk_norm * 2 * self.head_dim
        block = sum(inputs * outputs for inputs, outputs in self.linears.values()) + biases + norms
        embeddings = self.vocabulary * self.hidden * (1 if self.tied else 2)
        return embeddings + self.layers * block + self.hidden

    def adapter_parameters(self, rank: int, modules: tuple[str, ...] | str) -> int:
        """Parameters of a low-rank adapter on the named linear layers of every block ("all-linear": all of them)."""
        chosen = [shape for name, shape in self.linears.items() if modules == "all-linear" or name in modules]
        return self.layers * sum(rank * (inputs + outputs) for inputs, outputs in chosen)

    @property
    def cache_values(self) -> int:
        """Keys and values that one token leaves in the cache."""
        return 2 * self.layers * self.keys


def read_architecture(values: Mapping[str, Any]) -> Architecture | None:
    """The architecture that a `config.json` describes, or None where it is not of the family or lacks a number."""
    kind = values.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILY:
        return None
    try:
        hidden, heads = int(values["hidden_size"]), int(values["num_attention_heads"])
        bias = bool(values.get("attention_bias", False))
        return Architecture(
            vocabulary=int(values["vocab_size"]),
            hidden=hidden,
            intermediate=int(values["intermediate_size"]),
            layers=int(values["num_hidden_layers"]),
            heads=heads,
            kv_heads=int(values.get("num_key_value_heads") or heads),
            head_dim=int(values.get("head_dim") or hidden // heads),
            tied=bool(values.get("tie_word_embeddings", kind != "mistral" and kind != "llama")),
            qk_norm=kind == "qwen3",
            qkv_bias=bias or kind == "qwen2",
            output_bias=bias and kind != "qwen2",
            mlp_bias=bool(values.get("mlp_bias", False)),
            positions=int(values.get("max_position_embeddings") or 0),
        )
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return None


def _qwen3(
    hidden: int, intermediate: int, layers: int, heads: int, *, tied: bool, positions: int = 40960
) -> Architecture:
    return Architecture(151936, hidden, intermediate, layers, heads, 8, 128, tied, qk_norm=True, positions=positions)


KNOWN: Final[dict[str, Architecture]] = {
    "Qwen/Qwen3-0.6B": _qwen3(1024, 3072, 28, 16, tied=True),
    "Qwen/Qwen3-1.7B": _qwen3(2048, 6144, 28, 16, tied=True),
    "Qwen/Qwen3-4B": _qwen3(2560, 9728, 36, 32, tied=True),
    "Qwen/Qwen3-4B-Instruct-2507": _qwen3(2560, 9728, 36, 32, tied=True, positions=262144),
    "Qwen/Qwen3-8B": _qwen3(4096, 12288, 36, 32, tied=False),
    "smollm2-135m": Architecture(49152, 576, 1536, 30, 9, 3, 64, True, positions=8192),
}
"""Models that presets name, for where neither a folder nor the hub can be asked. From their published config.json."""
