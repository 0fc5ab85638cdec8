"""Settings of what happens to knowledge between its extraction and its distillation."""

from typing import Literal

from oel_core.config_base import Count, Section


class SelectionConfig(Section):
    """Which of the round's knowledge files are distilled, by their pass rate in context on validation episodes."""

    use: Literal["all", "best", "top_m", "weighted"] = "all"
    """`all` scores nothing; `weighted` draws a file with a probability proportional to its pass rate."""
    m: Count = 3
    """Files that `top_m` keeps."""
    episodes: Count = 32
    """Validation episodes that each file is scored on; all files of a round play the same ones."""


class SaturationConfig(Section):
    """The pass rate in context as the knowledge grows. Measured for the report, it decides nothing."""

    every: Count | None = None
    """Extraction episodes between two points; null measures nothing."""
    episodes: Count = 32
    """Validation episodes a replica and point."""
