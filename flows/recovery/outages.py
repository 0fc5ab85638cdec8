"""A Prefect server that is away for a while: wait for it, and go on where the files say the round is.

Prefect's client tries again by itself only on connections it once had; what needs a new one fails at once.
"""

import os
import time
from collections.abc import Callable
from typing import TypeVar

import httpx
from prefect.logging import get_logger

from flows.services.servers import answers
from oel_core.errors import OelError
from tasks.retries import causes

PATIENCE_S, PAUSE_S, MOST = 900.0, 1.0, 20
"""How long one outage may last, and how many there may be."""

T = TypeVar("T")


def through_outages(work: Callable[[], T]) -> T:
    """Does the work, again from the start when it fails because the server did not answer and the server comes back.

    The work must be such that doing it again goes on with what is done.
    """
    for _ in range(MOST):
        try:
            return work()
        except Exception as error:
            if not is_outage(error):
                raise
            get_logger("oel").warning("the Prefect server does not answer (%s): waiting for it", error)
            if not _back_within(PATIENCE_S):
                raise
    return work()


def is_outage(error: BaseException) -> bool:
    """Whether the error, or what it came from, is the Prefect server that could not be reached.

    Model servers and the hub are asked through httpx too: what came of that is an error of this project.
    """
    known = (cause for cause in causes(error) if isinstance(cause, (OelError, httpx.TransportError)))
    return isinstance(next(known, None), httpx.TransportError)


def _back_within(patience_s: float) -> bool:
    url = os.environ.get("PREFECT_API_URL")
    until = time.monotonic() + patience_s
    while url is not None and time.monotonic() < until:
        if answers(f"{url}/health"):
            return True
        time.sleep(PAUSE_S)
    return False
