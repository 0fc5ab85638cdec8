"""Makes untrusted text safe to store and display: valid Unicode, no characters that hide, reorder, or control a
terminal.

All output of commands and all text from records in Markdown pages is filtered here.
"""

import json
import unicodedata

KEPT = "\n\t"
HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
"""Unicode categories: control, format (bidirectional marks), surrogate, private, unassigned, line, paragraph."""
REPLACEMENT = "\ufffd"


def visible(text: str, *, kept: str = KEPT) -> str:
    """The text with code points in place of invisible characters; those in `kept` stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        f"⟨U+{ord(character):04X}⟩" if _is_hidden(character) and character not in kept else character
        for character in text
    )


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in HIDDEN


def visible_json(text: str) -> str:
    """JSON with the same values, in which invisible characters are escaped."""
    return "".join(json.dumps(character)[1:-1] if _is_hidden(character) else character for character in text)


def visible_line(text: str, most: int = 200) -> str:
    """`visible` on one line, truncated to `most` characters: for names and ids within a sentence or a table."""
    return visible(text[:most], kept="") + ("..." if len(text) > most else "")


def well_formed(text: str) -> str:
    """The text with U+FFFD in place of unpaired surrogates, which UTF-8 cannot represent; pairs are joined."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
