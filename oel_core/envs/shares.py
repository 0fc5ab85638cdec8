"""Shares of layouts: the key of a layout assigns it to training, validation or held-out episodes.

The assignment depends on neither loop seed nor round, so a held-out layout is never trained on, in any run.
"""

import hashlib
from typing import Literal

Share = Literal["train", "validation", "held_out"]

_VALIDATION, _HELD_OUT = 10, 20
"""Per cent of all layouts."""


def layout_share(layout: str) -> Share:
    """The share that a layout is assigned to."""
    percent = int.from_bytes(hashlib.sha256(layout.encode()).digest()[:8], "big") % 100
    if percent < _HELD_OUT:
        return "held_out"
    return "validation" if percent < _HELD_OUT + _VALIDATION else "train"
