"""A tracking database that does not answer for a while, since a backup holds it or its server restarts: waited for.

MLflow itself waits 20 seconds for a locked SQLite database and not at all for a PostgreSQL server that is away.
"""

import time
from collections.abc import Callable
from typing import Any, TypeVar

from tasks.retries import causes

PATIENCE_S, FIRST_PAUSE_S, LONGEST_PAUSE_S = 300.0, 0.5, 10.0
AWAY = "TEMPORARILY_UNAVAILABLE"
"""What MLflow calls an error of the database's connection."""
STAYS = ("disk is full", "disk i/o error", "readonly database")
"""What waiting does not help against, though it comes as the same kind of error."""

T = TypeVar("T")


def patiently(act: Callable[[], T]) -> T:
    """Does it, again and again with growing pauses for up to `PATIENCE_S` seconds while the database is away.

    It must be such that doing it twice is as good as doing it once.
    """
    until, pause_s = time.monotonic() + PATIENCE_S, FIRST_PAUSE_S
    while True:
        try:
            return act()
        except Exception as error:
            if not is_away(error) or time.monotonic() > until:
                raise
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def is_away(error: BaseException) -> bool:
    """Whether the error, or what it came from, is a database that may answer later."""
    chain = causes(error)
    if any(words in str(link).lower() for link in chain for words in STAYS):
        return False
    return any(getattr(link, "error_code", None) == AWAY for link in chain)


class PatientClient:
    """A client whose methods are called patiently, except those that make something new each time."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if name.startswith("create_"):
            return method
        return lambda *arguments, **options: patiently(lambda: method(*arguments, **options))
