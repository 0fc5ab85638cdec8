"""Secrets, personal data and links in a text, with their positions, so that records can leave them out."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from oel_core.config.knowledge import Check


class Found(NamedTuple):
    """One match in a text."""

    check: Check
    what: str
    start: int
    end: int


_SECRETS: tuple[tuple[str, str], ...] = (
    ("a private key", r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    ("an AWS key id", r"\b(?:AKIA|ASIA|AGPA|AIDA)[0-9A-Z]{16}\b"),
    ("a GitHub token", r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,})"),
    ("a GitLab token", r"\bglpat-[\w-]{16,}"),
    ("a Slack token", r"\bxox[abeoprs]-[\w-]{10,}"),
    ("a Google API key", r"\bAIza[\w-]{30,}"),
    ("an API key", r"\b(?:sk|pk|rk)[-_][A-Za-z0-9_-]{16,}"),
    ("a Hugging Face token", r"\bhf_[A-Za-z0-9]{20,}"),
    ("a package registry token", r"\b(?:npm_[A-Za-z0-9]{20,}|pypi-[\w-]{20,})"),
    ("a JSON web token", r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"),
    ("a password in an address", r"\b[a-z][a-z0-9+.-]{0,30}://[^\s/:@]{1,200}:[^\s/@]{1,200}@"),
    (
        "an assigned credential",
        r"(?i)(?:password|passwd|pwd|secret|api[_-]?key|access[_-]?key|auth[_-]?token|bearer)\w{0,40}"
        r"[\"']?\s{0,9}(?::=|=|:)\s{0,9}[\"']?[^\s\"']{6,}",
    ),
    ("an authorisation header", r"(?i)\b(?:bearer|basic)\s{1,9}[A-Za-z0-9+/._~-]{16,}"),
)
_LINKS: tuple[tuple[str, str], ...] = (
    ("a link", r"(?i)\b(?:https?|ftps?|file|wss?|ssh)://\S+"),
    ("a link", r"(?i)\b(?:hxxps?|data:[a-z]+/|mailto:|javascript:)\S*"),
    ("a link", r"(?i)\bwww\d?\.\S+\.\S+"),
    ("a link", r"!?\[[^\[\]]*\]\(\s{0,9}[^()\[\s]+\s{0,9}\)"),
    (
        "a domain name",
        r"(?i)(?<![\w.-])[a-z0-9-][a-z0-9.-]*\.(?:com|net|org|io|ai|dev|app|info|biz|xyz|top|site|online|ru|cn|de|fr|uk|co|me|sh|ly|gl"
        r"|onion)(?:/\S*)?(?![\w.])",
    ),
    ("an IP address", r"\b(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?::\d+)?\b"),
)
_EMAIL = r"(?<![\w.+-])[\w.+-]+\s?(?:@|\(at\)|\[at\])\s?[\w-]+(?:\.[\w-]+)+"
_PHONE = (
    r"(?<![\w.])(?:\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?(?:\d[ .-]?){6,13}\d|\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4})(?!\w)"
)
_CARD = r"(?<![\w.])[3-6](?:[ -]?\d){12,18}(?!\w)"
_IBAN = r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b"
_TOKEN = re.compile(r"[A-Za-z0-9+/=_-]{20,}")


def private_data(text: str) -> Iterator[Found]:
    """Secrets, personal data and links, in no particular order; matches may overlap."""
    for check, patterns in ((Check.SECRET, _SECRETS), (Check.LINK, _LINKS)):
        for what, pattern in patterns:
            yield from _found(check, what, pattern, text)
    yield from _found(Check.PERSONAL_DATA, "an e-mail address", _EMAIL, text)
    yield from _found(Check.PERSONAL_DATA, "a phone number", _PHONE, text)
    yield from _found(Check.PERSONAL_DATA, "a payment card number", _CARD, text, luhn)
    yield from _found(Check.PERSONAL_DATA, "a bank account number", _IBAN, text, iban)
    for match in _TOKEN.finditer(text):
        if looks_random(match.group()):
            yield Found(Check.SECRET, "a token that looks random", match.start(), match.end())


def redacted(text: str, found: Iterator[Found] | list[Found]) -> str:
    """The text with secrets and personal data replaced by their kind."""
    places = sorted((place for place in found if place.check is not Check.LINK), key=lambda place: place.start)
    parts, at = [], 0
    for place in places:
        if place.start >= at:
            parts += [text[at : place.start], f"[{place.what}]"]
        at = max(at, place.end)
    return "".join([*parts, text[at:]])


def _found(
    check: Check, what: str, pattern: str, text: str, valid: Callable[[str], bool] = lambda match: True
) -> Iterator[Found]:
    for match in re.finditer(pattern, text):
        if valid(match.group()):
            yield Found(check, what, match.start(), match.end())


def luhn(text: str) -> bool:
    """Whether the digits pass the check of ISO/IEC 7812 and are not all the same."""
    digits = [int(character) for character in text if character.isdigit()]
    doubled = [digit if place % 2 == 0 else sum(divmod(2 * digit, 10)) for place, digit in enumerate(reversed(digits))]
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and sum(doubled) % 10 == 0


def iban(text: str) -> bool:
    """Whether the check digits of ISO 13616 are valid."""
    plain = text.replace(" ", "")
    turned = plain[4:] + plain[:4]
    return 15 <= len(plain) <= 34 and int("".join(str(int(character, 36)) for character in turned)) % 97 == 1


def looks_random(token: str) -> bool:
    """Whether a long token of mixed characters has the entropy of a key, which words and boards do not reach."""
    counts = Counter(token)
    bits = -sum(count / len(token) * math.log2(count / len(token)) for count in counts.values())
    digits = sum(character.isdigit() for character in token)
    if re.fullmatch(r"[0-9a-fA-F]{32,}", token):
        return bits > 3 and 0 < digits < len(token)
    kinds = digits >= 2, any(map(str.isupper, token)), any(map(str.islower, token))
    words = [part for part in re.split(r"[^A-Za-z0-9]+", token) if part]
    return sum(kinds) >= 2 and kinds[0] and bits > 3.7 and max(map(len, words), default=0) >= 12
