"""Retries a flow through outages of the Prefect server; the files in the run's folder say where its round is.

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

TIMEOUT_S, POLL_S, MOST = 900.0, 1.0, 20
"""How long one outage may last, how often the server is asked meanwhile, and how many outages there may be."""

T = TypeVar("T")


def through_outages(work: Callable[[], T]) -> T:
    """The result of `work`, which is retried when it failed because the server did not answer, once the server does.

    It must resume from what an earlier attempt finished.
    """
    return Retrying(
        retry=retry_if_exception_type(Exception) & retry_if_exception(is_outage),  # never an interrupt
        stop=stop_after_attempt(MOST + 1),
        before_sleep=_wait_for_server,
        reraise=True,
    )(work)


def is_outage(error: BaseException) -> bool:
    """Whether the error, or what it came from, is the Prefect server that could not be reached.

    Model servers and the hub are asked through httpx too: what came of that is an error of this project.
    """
    known = (cause for cause in causes(error) if isinstance(cause, (OelError, httpx.TransportError)))
    return isinstance(next(known, None), httpx.TransportError)


def _wait_for_server(state: RetryCallState) -> None:
    """Returns when the server answers; raises the failure where it does not within `TIMEOUT_S`."""
    error = state.outcome.exception() if state.outcome else None
    assert error is not None  # called after a failure only
    get_logger("oel").warning("the Prefect server does not answer (%s): waiting for it", error)
    url, until = os.environ.get("PREFECT_API_URL"), time.monotonic() + TIMEOUT_S
    while url is None or not answers(f"{url}/health"):
        if url is None or time.monotonic() >= until:
            raise error
        time.sleep(POLL_S)
