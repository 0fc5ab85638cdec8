"""Itemised knowledge: one line an item (the paper's format v4)."""

import re

from oel_core.prompts.extraction.base import CountTokens, ExtractionFormat
from oel_core.text.thinking import answer_in

MARKER = "- EXPERIENCE ITEM:"

INSTRUCTIONS = f"Write only what is new and would help. Each item is one line that starts with '{MARKER}'."


def parse(output: str) -> list[str]:
    """Items of an extractor's raw output: without thinking and empty items; several items on one line are split."""
    items = []
    for line in answer_in(output).splitlines():
        if line.strip().startswith(MARKER):
            texts = (part.strip() for part in line.split(MARKER)[1:])
            items += [f"{MARKER} {text}" for text in texts if text]
    return items


def finished(output: str) -> str:
    """All complete lines, and the items of the last line except its last: an item ends with its line or the next."""
    *lines, last = output.splitlines(keepends=True) or [""]
    if last.splitlines() != [last]:  # it has its line end
        return output
    return "".join(lines) + last.rpartition(MARKER)[0]


def truncate(knowledge: str, max_tokens: int, count: CountTokens) -> str:
    """The newest whole items that fit into `max_tokens`; an item extends to the next marker at the start of a line."""
    starts = [match.start() for match in re.finditer(rf"^{re.escape(MARKER)}", knowledge, re.MULTILINE)]
    for start in starts:
        kept = knowledge[start:].strip()
        if count(kept) <= max_tokens:
            return kept
    return ""


def shape(item: str) -> str:
    """Any number of items, one per line: a model that has nothing new to say ends at once."""
    line = f"{re.escape(MARKER)} (?:{item})"
    return rf"(?:{line}(?:\n{line})*\n?)?"


FORMAT = ExtractionFormat(
    name="itemised", instructions=INSTRUCTIONS, parse=parse, finished=finished, truncate=truncate, shape=shape
)
