"""Settings of the stages between extraction and distillation."""

from enum import StrEnum
from typing import Literal, Self

from pydantic import model_validator

from oel_core.config.section import Count, Section, Share


class Check(StrEnum):
    """Kinds of hygiene checks."""

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
    """Selects the knowledge files to distil by their pass rate in context on validation episodes."""

    use: Literal["all", "best", "top_m", "weighted"] = "all"
    """`all` does not score; `weighted` samples a file with a probability proportional to its pass rate."""
    m: Count = 3
    """Number of files for `top_m`."""
    episodes: Count = 32
    """Validation episodes per file; all files of a round use the same ones."""


class SaturationConfig(Section):
    """Pass rate in context by number of extracted episodes. For the report only."""

    every: Count | None = None
    """Extraction episodes between two points; null: off."""
    episodes: Count = 32
    """Validation episodes per replica and point."""


class SourceConfig(Section):
    """Source of the knowledge texts."""

    use: Literal["extracted", "raw", "folder"] = "extracted"
    """Extracted knowledge, raw episodes, or the knowledge of another run."""
    folder: str | None = None
    """With `folder`: a finished `accumulate` stage of another run; its first files are used, one per replica."""
    raw_max_tokens: Count | None = None
    """Token cap of raw episodes, newest first, in the extractor's format; null is `knowledge.max_tokens`."""

    @model_validator(mode="after")
    def _folder_is_named(self) -> Self:
        if (self.use == "folder") != (self.folder is not None):
            raise ValueError("use: folder and folder go together: name the accumulate stage of the run to learn from")
        return self


class InjectionConfig(Section):
    """How knowledge is inserted into prompts, in context and for the teacher."""

    mode: Literal["global", "step_wise"] = "global"
    """All knowledge at every turn, or at each turn the part relevant to it (arXiv 2606.04703)."""
    items: Count = 3
    """Maximum items, or lines of free text, per turn."""


class HygieneConfig(Section):
    """Checks of every new item before merging. Trajectories, and therefore items, are untrusted text."""

    policy: Literal["off", "flag", "drop"] = "off"
    """`flag` records findings and keeps the item; `drop` records them and drops the item."""
    checks: tuple[Check, ...] = tuple(Check)
    """Enabled checks."""
    near_duplicate: Share = 0.7
    """Jaccard similarity of word pairs from which an item without new content is a near-duplicate."""
    max_words: Count = 150
    """Maximum words of one line."""
    scripts: tuple[str, ...] = ("latin",)
    """Allowed scripts, as at the beginning of Unicode character names: latin, cyrillic, cjk, arabic, ..."""


class ReviewConfig(Section):
    """Human review of the knowledge between accumulation and distillation."""

    mode: Literal["off", "required"] = "off"
    timeout_minutes: Count = 1440
    """Time-out of a review after the round's first request."""
    on_timeout: Literal["approve", "reject", "fail"] = "fail"
    """`fail` ends the run without a decision, which can still be made afterwards; the others decide."""


class KnowledgeConfig(Section):
    """How items are accumulated, selected and inserted into prompts."""

    max_tokens: Count = 8192
    """Token cap of one knowledge file; the oldest items are removed first, whole."""
    carry_over: bool = False
    """Start a round's knowledge from the previous round's instead of empty."""
    revision: Literal["off", "on"] = "off"
    """`on`: a round's episodes also dispute, merge and retire items, and the cap removes the least useful by measured
    value and evidence; needs `carry_over`. `off`: they only add items, and the cap removes the oldest, as in the
    paper."""
    allow_empty: bool = False
    """Distil even if all knowledge files are empty; otherwise that is an error. Empty files among others are left
    out in any case."""
    source: SourceConfig = SourceConfig()
    injection: InjectionConfig = InjectionConfig()
    selection: SelectionConfig = SelectionConfig()
    saturation: SaturationConfig = SaturationConfig()
    hygiene: HygieneConfig = HygieneConfig()

    @model_validator(mode="after")
    def _there_is_something_to_revise(self) -> Self:
        if self.revision == "on" and not (self.carry_over and self.source.use == "extracted"):
            raise ValueError(
                "revision: on is about items of earlier rounds: set carry_over, and source.use to extracted"
            )
        return self
