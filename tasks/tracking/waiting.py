"""Retries while the tracking database is unavailable, because of a backup or a server restart.

MLflow itself waits 20 seconds for a locked SQLite database and does not wait for an unreachable PostgreSQL server.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from tenacity import Retrying, retry_if_exception, retry_if_exception_type, stop_after_delay, wait_exponential

from tasks.retries import causes

TIMEOUT_S, FIRST_PAUSE_S, MAX_PAUSE_S = 300.0, 0.5, 10.0
UNAVAILABLE = "TEMPORARILY_UNAVAILABLE"
"""MLflow's error code for a failed database connection."""
PERMANENT = ("disk is full", "disk i/o error", "readonly database")
"""Permanent errors with the same error code."""

T = TypeVar("T")


def retried(act: Callable[[], T]) -> T:
    """The result of `act`, retried with exponential back-off for up to `TIMEOUT_S` seconds while the database is
    unavailable.

    It must be idempotent.
    """
    return Retrying(
        retry=retry_if_exception_type(Exception) & retry_if_exception(is_unavailable),  # never an interrupt
        stop=stop_after_delay(TIMEOUT_S),
        wait=wait_exponential(FIRST_PAUSE_S, MAX_PAUSE_S),
        reraise=True,
    )(act)


def is_unavailable(error: BaseException) -> bool:
    """Whether the error or one of its causes is a temporarily unavailable database."""
    chain = causes(error)
    if any(words in str(link).lower() for link in chain for words in PERMANENT):
        return False
    return any(getattr(link, "error_code", None) == UNAVAILABLE for link in chain)


class RetryingClient:
    """A client whose idempotent methods are retried; creating methods are called once."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if name.startswith("create_"):
            return method
        return lambda *arguments, **options: retried(lambda: method(*arguments, **options))
