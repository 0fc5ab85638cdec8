"""Settings of what happens to knowledge between its extraction and its distillation."""

from enum import StrEnum
from typing import Literal

from oel_core.config_base import Count, Section, Share


class Check(StrEnum):
    """What an item may be flagged for."""

    NEAR_DUPLICATE = "near_duplicate"
    LENGTH = "length"
    REPETITION = "repetition"
    SCRIPT = "script"
    HIDDEN_TEXT = "hidden_text"
    INSTRUCTION = "instruction"
    LINK = "link"
    SECRET = "secret"
    PERSONAL_DATA = "personal_data"


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


class HygieneConfig(Section):
    """What is looked for in every new item before it is merged. Trajectories, and so items, are untrusted text."""

    policy: Literal["off", "flag", "drop"] = "off"
    """`flag` records what was found and keeps the item; `drop` records it and leaves the item out."""
    checks: tuple[Check, ...] = tuple(Check)
    """Which checks are made."""
    near_duplicate: Share = 0.7
    """Jaccard similarity of word pairs from which an item that adds nothing counts as said already."""
    max_words: Count = 150
    """Of one line."""
    scripts: tuple[str, ...] = ("latin",)
    """Scripts that items are written in, as Unicode's character names begin: latin, cyrillic, cjk, arabic, ..."""


class ReviewConfig(Section):
    """A person's look at the knowledge between its accumulation and its distillation."""

    mode: Literal["off", "required"] = "off"
    timeout_minutes: Count = 1440
    """How long a round waits, from when it first asked."""
    on_timeout: Literal["approve", "reject", "fail"] = "fail"
    """`fail` ends the run without a decision, so that one can still be made; the others decide."""
