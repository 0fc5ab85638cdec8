"""Untrusted text as it can be kept and shown: valid Unicode, no characters that hide, reorder, or steer a terminal.

Everything that a command prints and everything in a Markdown page that a record says goes through here.
"""

import json
import unicodedata

KEPT = "\n\t"
HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
"""Unicode categories: control, format (bidirectional marks), surrogate, private, unassigned, line, paragraph."""
REPLACEMENT = "\ufffd"


def visible(text: str, *, kept: str = KEPT) -> str:
    """The text with code points in place of characters that cannot be seen; those in `kept` stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        f"⟨U+{ord(character):04X}⟩" if _is_hidden(character) and character not in kept else character
        for character in text
    )


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in HIDDEN


def visible_json(text: str) -> str:
    """JSON with the same values, in which characters that cannot be seen are escaped."""
    return "".join(json.dumps(character)[1:-1] if _is_hidden(character) else character for character in text)


def visible_line(text: str, most: int = 200) -> str:
    """`visible` on one line, cut to `most` characters: for names and ids within a sentence or a table."""
    return visible(text[:most], kept="") + ("..." if len(text) > most else "")


def well_formed(text: str) -> str:
    """The text with U+FFFD in place of half surrogate pairs, which JSON can say and UTF-8 cannot; whole pairs join."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
