"""All checks of a text, and the handling of flagged lines."""

from collections.abc import Iterable, Sequence

from oel_core.config.knowledge import Check, HygieneConfig
from oel_core.knowledge.hygiene.alike import Alike
from oel_core.knowledge.hygiene.instructions import instruction_reasons
from oel_core.knowledge.hygiene.private import private_data, redacted
from oel_core.knowledge.hygiene.records import Flag, FlaggedItem
from oel_core.knowledge.hygiene.shape import foreign_script, hidden_text, repetitive, too_long
from oel_core.knowledge.hygiene.text import without_marker
from oel_core.types import ExperienceItem


def inspect(text: str, config: HygieneConfig) -> tuple[Flag, ...]:
    """The flags of one text by itself, each reason once. Near-duplicates depend on other items: see `screen`."""
    plain = without_marker(text)
    found = [
        (Check.LENGTH, too_long(plain, config.max_words)),
        (Check.REPETITION, repetitive(plain)),
        (Check.SCRIPT, foreign_script(plain, config.scripts)),
        (Check.HIDDEN_TEXT, hidden_text(plain)),
        *((Check.INSTRUCTION, reason) for reason in instruction_reasons(plain)),
        *((place.check, place.what) for place in private_data(plain)),
    ]
    flags = (Flag(check=check, detail=detail) for check, detail in found if detail and check in config.checks)
    return tuple(dict.fromkeys(flags))


def screen(
    items: Iterable[ExperienceItem], known: Sequence[ExperienceItem], config: HygieneConfig, replica: int
) -> tuple[list[ExperienceItem], list[FlaggedItem]]:
    """The items that pass, and everything that was flagged.

    Items of several lines (free text) are checked line by line; an item without remaining lines is dropped. With `drop`
    a near-duplicate is replaced by the earlier item's text, so that merging counts it and keeps its sources.
    """
    if config.policy == "off":
        return list(items), []
    kept: list[ExperienceItem] = []
    flagged: list[FlaggedItem] = []
    earlier = _Earlier(known, config)
    for item in items:
        lines, found = _screened(item, earlier, config, replica)
        flagged += found
        if lines:
            kept.append(item.model_copy(update={"text": "\n".join(lines)}))
            earlier.add(kept[-1])
    return kept, flagged


class _Earlier:
    """The items before one; empty if near-duplicates are not looked for."""

    def __init__(self, known: Sequence[ExperienceItem], config: HygieneConfig) -> None:
        self._enabled = Check.NEAR_DUPLICATE in config.checks
        self._items: list[ExperienceItem] = []
        self._texts = set[str]()
        self._alike = Alike(config.near_duplicate)
        for item in known:
            self.add(item)

    def add(self, item: ExperienceItem) -> None:
        if self._enabled:
            self._alike.add(len(self._items), item.text)
            self._items.append(item)
            self._texts.add(" ".join(item.text.split()))

    def near_duplicate_of(self, line: str) -> ExperienceItem | None:
        """The first item with the same meaning in other words. Exact duplicates are left to merging."""
        if " ".join(line.split()) in self._texts:
            return None
        at = self._alike.first(line)
        return None if at is None else self._items[at]


def _screened(
    item: ExperienceItem, earlier: _Earlier, config: HygieneConfig, replica: int
) -> tuple[list[str], list[FlaggedItem]]:
    """The remaining lines of the item, and its flags."""
    lines = item.text.splitlines() or [item.text]
    flags = [inspect(line, config) for line in lines]
    across = inspect(item.text, config.model_copy(update={"max_words": 10**9})) if len(lines) > 1 else ()
    if across and not any(flags):  # only the lines together say it
        lines, flags = [item.text], [across]
    kept, flagged = [], []
    for line, reasons in zip(lines, flags, strict=True):
        duplicate = earlier.near_duplicate_of(line) if len(lines) == 1 and not reasons else None
        if duplicate is not None:
            reasons = (Flag(check=Check.NEAR_DUPLICATE, detail=f"says what is known from {duplicate.sources[0]}"),)
        if reasons:
            flagged.append(_flagged(item, line, reasons, config, replica))
        if not reasons or config.policy == "flag":
            kept.append(line)
        elif duplicate is not None:
            kept.append(duplicate.text)
    return kept, flagged


def _flagged(
    item: ExperienceItem, line: str, flags: tuple[Flag, ...], config: HygieneConfig, replica: int
) -> FlaggedItem:
    return FlaggedItem(
        replica=replica,
        text=redacted(line, private_data(line)),
        flags=flags,
        dropped=config.policy == "drop",
        sources=item.sources,
        round=item.round,
        model=item.model,
    )
