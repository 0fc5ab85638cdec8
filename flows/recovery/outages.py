"""Retries a flow through outages of the Prefect server; it resumes from the files in the run's folder.

Prefect's own client retries only on connections that it had; a request that needs a new one fails at once.
"""

import os
import time
from collections.abc import Callable
from typing import TypeVar

import httpx
from prefect.logging import get_logger
from tenacity import RetryCallState, Retrying, retry_if_exception, retry_if_exception_type, stop_after_attempt

from flows.services.servers import answers
from oel_core.errors import OelError
from tasks.retries import causes

TIMEOUT_S, POLL_S, MAX_RETRIES = 900.0, 1.0, 20
"""Timeout of one outage, polling interval, and maximum number of outages."""

T = TypeVar("T")


def through_outages(work: Callable[[], T]) -> T:
    """The result of `work`, retried after failures because of an outage, once the server responds.

    It must resume from what an earlier attempt finished.
    """
    return Retrying(
        retry=retry_if_exception_type(Exception) & retry_if_exception(is_outage),  # never an interrupt
        stop=stop_after_attempt(MAX_RETRIES + 1),
        before_sleep=_wait_for_server,
        reraise=True,
    )(work)


def is_outage(error: BaseException) -> bool:
    """Whether the error or one of its causes is an unreachable Prefect server.

    Failures of model servers and the hub, which use httpx too, are errors of this project instead.
    """
    known = (cause for cause in causes(error) if isinstance(cause, (OelError, httpx.TransportError)))
    return isinstance(next(known, None), httpx.TransportError)


def _wait_for_server(state: RetryCallState) -> None:
    """Returns when the server responds; raises the failure after `TIMEOUT_S`."""
    error = state.outcome.exception() if state.outcome else None
    assert error is not None  # called after a failure only
    get_logger("oel").warning("the Prefect server does not answer (%s): waiting for it", error)
    url, until = os.environ.get("PREFECT_API_URL"), time.monotonic() + TIMEOUT_S
    while url is None or not answers(f"{url}/health"):
        if url is None or time.monotonic() >= until:
            raise error
        time.sleep(POLL_S)
