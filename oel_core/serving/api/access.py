"""The bearer token that clients must send."""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from oel_core.errors import ArtifactError, ConfigError
from oel_core.serving.errors import ApiError

TOKEN = ".serve-token"
MIN_LENGTH = 16
"""Characters of a token."""


def token_of(folder: Path, variable: str | None, environment: Mapping[str, str]) -> str:
    """The token in an environment variable, or in a file of the project's folder, created at first use with mode 0600.

    Raises:
        ConfigError: the variable is not set, or its token is short.
        ArtifactError: the file cannot be used.
    """
    if variable is not None:
        found = environment.get(variable, "").strip()
        if len(found) < MIN_LENGTH:
            raise ConfigError(
                f"the environment variable {variable} (serve.token_env) has no token of at least {MIN_LENGTH} "
                "characters: put one in it"
            )
        return found
    path = folder / TOKEN
    try:
        return _token_in(path)
    except OSError as error:
        raise ArtifactError(f"{path} cannot be used ({error.strerror}): let this user read and write it") from error


def _token_in(path: Path) -> str:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        found = path.read_text().strip()
        if len(found) < MIN_LENGTH:
            raise ArtifactError(f"{path} has no token: delete it, and the next start makes another") from None
        return found
    token = secrets.token_urlsafe(32)
    with os.fdopen(handle, "w") as file:
        file.write(token + "\n")
    return token


def require_token(header: str | None, token: str) -> None:
    """Raises ApiError unless the `Authorization` header has the token."""
    kind, _, given = (header or "").partition(" ")
    if kind.lower() != "bearer" or not secrets.compare_digest(given.strip().encode(), token.encode()):
        raise ApiError(401, "the bearer token is missing or wrong", code="invalid_api_key")
