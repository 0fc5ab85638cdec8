"""Knowledge hygiene: what is suspicious about an item, and what becomes of it. Pure Python, no model, no network.

The checks are patterns and counts: they catch what is careless or crude, and a determined author can word around
them. They narrow what reaches the weights; they are no proof that an item is harmless.
"""

from oel_core.knowledge.hygiene.records import Flag, FlaggedItem
from oel_core.knowledge.hygiene.screen import inspect, screen

__all__ = ["Flag", "FlaggedItem", "inspect", "screen"]
