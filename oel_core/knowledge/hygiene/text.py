"""Normalises text against obfuscation: folds look-alikes, spacing and invisible characters."""

import re
import unicodedata

_LOOK_ALIKES = str.maketrans(
    "авекмнорстухіјѕԁɡαοεικνρτυ",
    "abekmhopctyxijsdgaoeiknptu",
)
_LEET = str.maketrans("013457@$!", "oieastasi")
_SPACED = re.compile(r"(?:\b\w[ .\-_*|]){3,}\w\b")
_MARKER = re.compile(r"^\s*(?:-\s*)?EXPERIENCE ITEM:\s*")
WORD = re.compile(r"\w+(?:['’]\w+)?")  # noqa: RUF001


def without_marker(text: str) -> str:
    """The item without the leading marker of its format."""
    return _MARKER.sub("", text)


def folded(text: str) -> str:
    """Compatibility forms, look-alikes, case, accents, invisible characters and runs of white space normalised."""
    visible = "".join(
        character
        for character in unicodedata.normalize("NFKD", text)
        if unicodedata.category(character) not in ("Cf", "Mn", "Co", "Cn")
    )
    return " ".join(visible.casefold().translate(_LOOK_ALIKES).split())


def readings(text: str) -> set[str]:
    """The folded text, the same with spaced-out letters joined, and with digits read as letters."""
    plain = folded(text)
    joined = _SPACED.sub(lambda found: re.sub(r"[ .\-_*|]", "", found.group()), plain)
    return {plain, joined, joined.translate(_LEET)}


def script_of(character: str) -> str:
    """The script of a letter in lower case, like `latin`; empty for other characters."""
    if not character.isalpha():
        return ""
    return unicodedata.name(character, "unknown").split()[0].lower()
