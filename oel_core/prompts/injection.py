"""Which part of its knowledge a prompt contains: all of it, or at each step the part that is relevant to it.

Step-wise injection (arXiv 2606.04703) selects experience for the current state instead of showing the whole library at
every turn. The selector there is a large model; here it is arithmetic on words, so that it costs nothing, makes the
same choice for teacher and player, and works for models of any size.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from oel_core.config.knowledge import InjectionConfig
from oel_core.prompts.play import with_knowledge
from oel_core.types import Message

GLOBAL = InjectionConfig()
_WORD = re.compile(r"\w+|[^\w\s.,:;!?()\[\]{}'\"`-]")
"""Words, and single signs that are no punctuation: boards are made of them."""


def inject(messages: Sequence[Message], knowledge: str, config: InjectionConfig) -> tuple[Message, ...]:
    """The prompt with the knowledge inserted; an empty text changes nothing."""
    shown = knowledge if config.mode == "global" else relevant(knowledge, messages[-1].content, config.items)
    return with_knowledge(messages, shown)


def relevant(knowledge: str, situation: str, most: int) -> str:
    """At most `most` lines of the knowledge, in their order: those that share the rarest words with the situation.

    A line's score is the sum, over the words that it shares with the situation, of log(lines / lines with that word),
    so words in every line count for nothing. At equal scores the later line wins. Lines without shared words are left
    out, unless no line has any: then the newest `most` are shown.
    """
    lines, words, rarity = _analysed(knowledge)
    here = _words(situation)
    scores = [sum(rarity[word] for word in sorted(found & here)) for found in words]
    fitting = [number for number, score in enumerate(scores) if score > 0] or list(range(len(lines)))
    chosen = sorted(fitting, key=lambda number: (-scores[number], -number))[:most]
    return "\n".join(lines[number] for number in sorted(chosen))


@lru_cache(maxsize=64)
def _analysed(knowledge: str) -> tuple[list[str], list[frozenset[str]], dict[str, float]]:
    """Lines that say something, their words, and how rare each word is among them."""
    lines = [line for line in knowledge.splitlines() if line.strip()]
    words = [_words(line) for line in lines]
    counts = Counter(word for found in words for word in found)
    return lines, words, {word: math.log(len(lines) / count) for word, count in counts.items()}


def _words(text: str) -> frozenset[str]:
    """Words in lower case; single characters as they are, since they are often signs with a meaning of their own."""
    return frozenset(word if len(word) == 1 else word.lower() for word in _WORD.findall(text))
