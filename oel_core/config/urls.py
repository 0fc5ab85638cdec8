"""URLs that may contain secrets: rejected where they would be stored, redacted where they are displayed."""

import re
from urllib.parse import urlsplit

_WEB_USER = re.compile(r"(https?://)\S*@", re.IGNORECASE)
_PASSWORD = re.compile(r"(?<=://)([^/@:\s]*):[^/\s]*@")
_SECRET_QUERY = re.compile(
    r"([?&#][^=&#\s]*(?:key|token|secret|passw|pwd|auth|sig|credential)[^=&#\s]*)=[^&#\s]*", re.IGNORECASE
)


def without_secrets(text: str) -> str:
    """Text without passwords, user names in URLs, and keys in queries."""
    return _SECRET_QUERY.sub(r"\1=***", _PASSWORD.sub(r"\1@", _WEB_USER.sub(r"\1***@", text)))


def check_base_url(url: str) -> str:
    """The base URL of an API, without secrets.

    Raises:
        ValueError: not a URL that paths can be appended to, or one with a user, a password, a query or a fragment.
    """
    if "@" in url:
        raise ValueError("a user or password in the address would be printed and stored: use api_key_env for the key")
    if "?" in url or "#" in url:
        raise ValueError("a query would be printed and stored: end at the path, and use api_key_env for the key")
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        raise ValueError("must be the address of an API: http:// or https://, a host, a port if need be, a path")
    return url
