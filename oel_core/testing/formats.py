"""The contract of an extraction format (`oel_core.prompts.extraction.base.ExtractionFormat`)."""

from collections.abc import Sequence

from oel_core.prompts.extraction.base import ExtractionFormat

HOSTILE = ("", "   \n ", "</think>", "<think>unfinished", "\ud800", "\x1b[2J", "a\u2028b", "x" * 10_000)
"""Extractor outputs that must not raise; they may hold no item."""


def check_format(form: ExtractionFormat, outputs: Sequence[str]) -> None:
    """Checks the contract of a format: parsing and truncation.

    Args:
        form: the format.
        outputs: extractor outputs with at least one item each.

    Raises:
        AssertionError: the format violates its contract; the message says how.
    """
    assert form.name.isidentifier(), f"name {form.name!r} is not an identifier"
    assert form.instructions.strip(), "instructions are empty"
    for output in HOSTILE:
        form.parse(output)
    for output in outputs:
        items = form.parse(output)
        assert items, f"nothing was found in {output[:60]!r}"
        assert all(item.strip() for item in items), "an item is blank"
        assert form.parse("\n".join(items)) == items, f"items of {output[:60]!r} do not parse to themselves again"
        _check_truncation(form, "\n".join(items))


def _words(text: str) -> int:
    return len(text.split())


def _check_truncation(form: ExtractionFormat, text: str) -> None:
    for cap in range(_words(text) + 2):
        kept = form.truncate(text, cap, _words)
        assert _words(kept) <= cap, f"{_words(kept)} tokens were kept under a cap of {cap}"
        assert text.rstrip().endswith(kept), "what is kept is not the newest part of the text"
        assert form.truncate(kept, cap, _words) == kept, "truncating again cuts more"
    assert form.truncate(text, _words(text), _words) == text.strip(), "a text that fits was cut"
