"""Knowledge hygiene: detects suspicious items and handles them. Pure Python, without a model or network.

The checks are patterns and counts: they catch careless or crude items, but a determined author can avoid them. They
reduce what reaches the weights; they do not prove that an item is harmless.
"""

from oel_core.knowledge.hygiene.records import Flag, FlaggedItem
from oel_core.knowledge.hygiene.screen import inspect, screen

__all__ = ["Flag", "FlaggedItem", "inspect", "screen"]
