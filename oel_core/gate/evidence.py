"""Evidence that a mean is above zero: an e-process, valid under optional stopping.

Testing by betting: a capital of 1 is multiplied by `1 + bet * value` for each observation. If the conditional mean is
never above zero, the capital is a supermartingale and reaches 1/level with probability at most `level` (Ville's
inequality), at any stopping time. The capital is split evenly over a fixed grid of bets, so it depends on the values
but not on their order, and grows almost as fast as that of the best bet of the grid.

Source: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", Journal of the Royal
Statistical Society B 86, 2024 (arXiv 2010.09686).
"""

import math

import numpy as np
from numpy.typing import NDArray

from oel_core.errors import ArtifactError

BETS = np.append(np.arange(1, 20) / 20, 0.99)
"""Fractions of the largest bet with which no value loses the whole capital, shape (20,)."""
ROUNDING = 1e-9
"""Tolerance of the lower bound for rounding errors; the largest bet allows for it."""

Values = NDArray[np.float64]


def log_evidence(values: Values, least: float) -> float:
    """Natural logarithm of the e-value against "the mean is at most zero"; 0.0 without values.

    Args:
        values: shape (n,), in any order.
        least: lower bound of all values; negative.

    Raises:
        ArtifactError: a value is not a number, or below `least`.
    """
    if least >= 0:
        raise ValueError(f"values that cannot be below {least} have no mean to be tested against zero")
    if not len(values):
        return 0.0
    if not np.all(np.isfinite(values)) or values.min() < least - ROUNDING:
        raise ArtifactError(f"an observation of {values.min():g} lies below its bound of {least:g}")
    distinct, counts = np.unique(values, return_counts=True)
    return log_mean_capital(np.log1p(np.outer(BETS / -least, distinct)) @ counts)


def log_mean_capital(capitals: Values) -> float:
    """The logarithm of the capital split evenly over `BETS`, from the logarithm for each bet, shape (20,)."""
    most = float(capitals.max())
    return most + math.log(float(np.mean(np.exp(capitals - most))))


def required(level: float) -> float:
    """The log evidence required at this level: log(1 / level)."""
    return -math.log(level)
