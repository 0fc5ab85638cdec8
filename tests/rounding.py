"""Tolerances between two correct implementations: bounds from the number format and the lengths of sums, never from
what one machine printed. Where a test is about logic, `in_float64` leaves no room in which a fault could hide.
"""

from typing import Any

import pytest
import torch

_LIKELY = 6.0
"""Standard deviations: a sum of n terms leaves them with a probability of at most 2 n exp(-18)."""


def rounding(magnitude: float, terms: float, dtype: torch.dtype = torch.float32) -> float:
    """6 eps x magnitude x sqrt(terms): most that two orders of the same sum may differ by.

    Each is off by less than 6 u sqrt(terms) x magnitude, u = eps / 2 (Higham and Mary, "A new approach to probabilistic
    rounding error analysis", SIAM J. Sci. Comput. 2019, theorem 2.4), because rounding errors are as good as
    independent: the worst case has `terms` in place of its root.

    Args:
        magnitude: sum of the absolute values, or the size of the result where nothing cancels.
        terms: numbers that are added up, over all sums of a chain of them.
        dtype: what is added up in.
    """
    return _LIKELY * torch.finfo(dtype).eps * magnitude * terms**0.5


def chain(model: Any, longest: int, tokens: int) -> int:
    """Terms of all sums between token ids and one weight's gradient.

    Forward each matrix adds over its inputs and backward over its outputs; attention adds over the sequence in both
    directions, and a weight's gradient over all tokens.

    Args:
        model: a transformers model.
        longest: tokens of the longest sequence.
        tokens: of all sequences together.
    """
    matrices = sum(sum(weight.shape) for weight in model.parameters() if weight.ndim > 1)
    return matrices + 2 * model.config.num_hidden_layers * longest + tokens


def forward_rounding(model: Any, logits: torch.Tensor, longest: int) -> float:
    """Most that the logits of two right forwards of a model, or log-probabilities of them, may differ by.

    Args:
        model: a transformers model.
        logits: of one of the forwards; the largest of them is the magnitude.
        longest: tokens of the longest sequence.
    """
    return rounding(float(logits.abs().max()), chain(model, longest, 0), next(model.parameters()).dtype)


def in_float64(model: Any) -> Any:
    """The model, computing in float64 all through: transformers' RMS norms would go to float32 and back."""
    model.double()
    for name, norm in [(name, part) for name, part in model.named_modules() if type(part).__name__.endswith("RMSNorm")]:
        exact = torch.nn.RMSNorm(norm.weight.shape, eps=norm.variance_epsilon, dtype=torch.float64)
        exact.weight = norm.weight
        model.set_submodule(name, exact)
    return model


def require_bfloat16_attention() -> None:
    """Skips where ATEN_CPU_CAPABILITY is below the processor's: torch then packs for AVX-512 and refuses to."""
    rows = torch.zeros(1, 1, 64, 16, dtype=torch.bfloat16)
    try:
        torch.nn.functional.scaled_dot_product_attention(rows, rows, rows)
    except RuntimeError as error:
        pytest.skip(f"torch has no bfloat16 attention under this CPU capability: {error}")
