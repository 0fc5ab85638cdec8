"""Checks of an item's form: length, script, hidden characters, repetition, and near-duplicates."""

import re
import unicodedata
from collections import Counter
from itertools import pairwise

from oel_core.knowledge.hygiene.text import WORD, folded, script_of, without_marker

_MIXABLE = frozenset({"latin", "cyrillic", "greek"})
_NEGATIONS = frozenset(
    ("no", "not", "never", "without", "none", "cannot", "nor", "neither", "unless", "except", "avoid")
)
_ARTICLES = frozenset(("a", "an", "the", "this", "that", "it", "you", "your"))
_FILLERS = _ARTICLES | {
    "is",
    "are",
    "be",
    "to",
    "of",
    "in",
    "on",
    "at",
    "and",
    "will",
    "so",
    "very",
    "just",
    "can",
    "for",
}
_QUOTED = re.compile(r"""['"‘“`\[]([^'"’”`\]]{1,12})['"’”`\]]""")  # noqa: RUF001
REPEATED, FOREIGN = 0.4, 0.2
"""Share of a text's words that one word may make up, and share of its letters that may be of another script."""


def too_long(text: str, max_words: int) -> str | None:
    """Why the text is too long, or None."""
    words = len(WORD.findall(text))
    return f"{words} words, more than {max_words}" if words > max_words else None


def repetitive(text: str) -> str | None:
    """Why the text is repetitive, or None. Short texts never are."""
    words = WORD.findall(folded(without_marker(text)))
    if len(words) < 12:
        return None
    triples = Counter(zip(words, words[1:], words[2:], strict=False))
    word, count = Counter(words).most_common(1)[0]
    if count / len(words) > REPEATED and word not in _FILLERS:
        return f"one word makes up {count} of {len(words)}"
    most = triples.most_common(1)[0][1]
    return f"the same three words {most} times" if most >= 4 and most / len(words) > 0.15 else None


def foreign_script(text: str, scripts: tuple[str, ...]) -> str | None:
    """Scripts that are not allowed, or a word with mixed look-alike letters, or None."""
    letters = Counter(script for script in map(script_of, without_marker(text)) if script)
    total = sum(letters.values())
    wrong = {script: count for script, count in letters.items() if script not in scripts}
    if total and sum(wrong.values()) / total > FOREIGN:
        return f"{sum(wrong.values())} of {total} letters are {', '.join(sorted(wrong))}"
    for word in WORD.findall(text):
        mixed = {script_of(character) for character in word} & _MIXABLE
        if len(mixed) > 1:
            return f"a word mixes {' and '.join(sorted(mixed))} letters"
    return None


def hidden_text(text: str) -> str | None:
    """Invisible characters or characters that reorder text, or None."""
    for character in text:
        category = unicodedata.category(character)
        if (category in ("Cf", "Co", "Cn", "Cs") and character != "\u200d") or (
            category == "Cc" and character not in "\t\n\r"
        ):
            return f"an invisible character, U+{ord(character):04X}"
    if re.search(r"[\u0300-\u036f]{3}", unicodedata.normalize("NFD", text)):
        return "letters under a pile of accents"
    return None


def near_duplicate(text: str, other: str, threshold: float) -> bool:
    """Whether `text` and `other` have the same meaning in almost the same words.

    Items about an environment often differ in one symbol or word that matters ("'H' is deadly", "'K' is deadly"). So
    three conditions are required: the same quoted symbols, numbers, single letters and negations in the same order; no
    content word that only one side has; and a Jaccard similarity of their word pairs (2-shingles) of at least
    `threshold`.
    """
    ours, theirs = _words(text), _words(other)
    if _distinguishing(text, ours) != _distinguishing(other, theirs):
        return False
    content, other_content = ({_stem(word) for word in words if word not in _FILLERS} for words in (ours, theirs))
    if content - other_content and other_content - content:
        return False
    first, second = _pairs(ours), _pairs(theirs)
    return len(first & second) >= threshold * len(first | second) if first | second else ours == theirs


def distinguishing_tokens(text: str) -> tuple[tuple[str, ...], ...]:
    """What two texts must have in common to be near-duplicates: texts with other values need not be compared."""
    return tuple(map(tuple, _distinguishing(text, _words(text))))


def word_pairs(text: str) -> set[str]:
    """The word pairs by which near-duplicates are compared; a single word is one by itself."""
    words = _words(text)
    return {" ".join(pair) for pair in _pairs(words)} or {" ".join(words)}


def _words(text: str) -> list[str]:
    return WORD.findall(folded(without_marker(text)))


def _stem(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _distinguishing(text: str, words: list[str]) -> tuple[list[str], list[str]]:
    """Quoted symbols and single capitals (except a first "A"); negations, numbers and single letters."""
    plain = without_marker(text)
    signs = [unicodedata.normalize("NFKC", sign) for sign in _QUOTED.findall(plain)]
    signs += [word for place, word in enumerate(WORD.findall(plain)) if len(word) == 1 and word.isupper() and place]
    marks = [
        word for word in words
        if word in _NEGATIONS or word.endswith("n't") or any(map(str.isdigit, word)) or (len(word) == 1 and word != "a")
    ]  # fmt: skip
    return signs, marks


def _pairs(words: list[str]) -> set[tuple[str, str]]:
    return set(pairwise(map(_stem, words)))
