"""Settings of what happens to knowledge between its extraction and its distillation."""

from enum import StrEnum
from typing import Literal, Self

from pydantic import model_validator

from oel_core.config.section import Count, Section, Share


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


class SourceConfig(Section):
    """Where the texts that teach come from."""

    use: Literal["extracted", "raw", "folder"] = "extracted"
    """What the model wrote about its episodes, those episodes as they were, or what another one wrote about its own."""
    folder: str | None = None
    """With `folder`: a finished `accumulate` stage of another run; its first files, one a replica, are taken over."""
    raw_max_tokens: Count | None = None
    """Token cap of raw episodes, the newest that fit as the extractor reads them; null is `knowledge.max_tokens`."""

    @model_validator(mode="after")
    def _folder_is_named(self) -> Self:
        if (self.use == "folder") != (self.folder is not None):
            raise ValueError("use: folder and folder go together: name the accumulate stage of the run to learn from")
        return self


class InjectionConfig(Section):
    """How a prompt carries knowledge, in context and for the teacher."""

    mode: Literal["global", "step_wise"] = "global"
    """All of it at every turn, or at each turn what has to do with it (arXiv 2606.04703)."""
    items: Count = 3
    """Most items, or lines of free text, that a step is given."""


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


class KnowledgeConfig(Section):
    """How items accumulate, and how they are chosen and shown."""

    max_tokens: Count = 8192
    """Token cap of one knowledge file; oldest items go first, whole."""
    carry_over: bool = False
    """Start a round's knowledge from the previous round's instead of from nothing."""
    allow_empty: bool = False
    """Distil even where a knowledge file is empty. Without it an empty file is an error."""
    source: SourceConfig = SourceConfig()
    injection: InjectionConfig = InjectionConfig()
    selection: SelectionConfig = SelectionConfig()
    saturation: SaturationConfig = SaturationConfig()
    hygiene: HygieneConfig = HygieneConfig()
