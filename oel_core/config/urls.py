"""URLs that may contain secrets: rejected where they would be stored, redacted where they are displayed. Addresses."""

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


def check_rendezvous(text: str) -> str:
    """An address as `HOST:PORT`. ValueError for anything else, and for all interfaces of a machine."""
    if host_and_port(text)[0] in ("0.0.0.0", "::"):
        raise ValueError("all interfaces are no address that other nodes can connect to: name one of them")
    return text


def host_and_port(text: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`; an IPv6 address is in brackets, as in `[::1]:29400`.

    Raises:
        ValueError: no such address, or the port is not from 1 to 65535.
    """
    found = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9._-]+)):([0-9]{1,5})", text)
    if found is None or not 0 < int(found[3]) < 2**16:
        raise ValueError("must be HOST:PORT, an address of the run's machine and a free port, like 10.0.0.1:29400")
    return found[1] or found[2], int(found[3])
