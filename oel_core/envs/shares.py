"""Shares of layouts: every layout of a world belongs to training, validation or the held-out episodes, by its key.

The shares depend on neither loop seed nor round, so a held-out layout stays unseen in every run.
"""

import hashlib
from typing import Literal

Share = Literal["train", "validation", "held_out"]

_VALIDATION, _HELD_OUT = 10, 20
"""Per cent of all layouts."""


def layout_share(layout: str) -> Share:
    """To which share a layout belongs."""
    percent = int.from_bytes(hashlib.sha256(layout.encode()).digest()[:8], "big") % 100
    if percent < _HELD_OUT:
        return "held_out"
    return "validation" if percent < _HELD_OUT + _VALIDATION else "train"
