"""Free-text knowledge: the extractor's whole output after its thinking (the paper's format v3)."""

from oel_core.prompts.extraction.base import CountTokens, ExtractionFormat
from oel_core.text.thinking import answer_in

INSTRUCTIONS = "Write it down briefly and plainly, without retelling the episode."


def parse(output: str) -> list[str]:
    """The text after the thinking as one item; no item if it is empty.

    Text that begins with thinking again is read like an output, since it would be when the item is parsed once more.
    """
    visible = answer_in(output).strip()
    while (rest := answer_in(visible).strip()) != visible:
        visible = rest
    return [visible] if visible else []


def finished(output: str) -> str:
    """All complete lines."""
    return output[: output.rfind("\n") + 1]


def truncate(knowledge: str, max_tokens: int, count: CountTokens) -> str:
    """The newest whole lines that fit into `max_tokens`."""
    lines = knowledge.split("\n")
    for first in range(len(lines)):
        kept = "\n".join(lines[first:]).strip()
        if count(kept) <= max_tokens:
            return kept
    return ""


FORMAT = ExtractionFormat(
    name="free_text", instructions=INSTRUCTIONS, parse=parse, finished=finished, truncate=truncate
)
