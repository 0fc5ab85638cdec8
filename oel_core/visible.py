"""Untrusted text as it can be shown: without characters that hide, reorder, or steer a terminal."""

import unicodedata

KEPT = "\n\t"


def visible(text: str) -> str:
    """The text with code points in place of control, format, private and unassigned characters."""
    return "".join(
        f"⟨U+{ord(character):04X}⟩"
        if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn") and character not in KEPT
        else character
        for character in text
    )
