"""HTTP client of a model server: bounded concurrency, rate limit, retries with back-off, and typed errors.

Retried: connection errors, time-outs, 408, 425, 429, 5xx, and responses that are not the expected JSON. `Retry-After`
pauses all requests, not only the one it answered.
"""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    RetryError,
    retry_if_exception_type,
    wait_exponential,
    wait_random_exponential,
)
from tenacity.stop import stop_base

from oel_core.config.serving import OpenAIConfig
from oel_core.errors import PolicyError
from oel_core.text.visible import visible_line

Result = TypeVar("Result")
FIRST_WAIT_S, MAX_WAIT_S = 0.5, 30.0
BACKOFF = wait_exponential(FIRST_WAIT_S / 2, MAX_WAIT_S / 2) + wait_random_exponential(FIRST_WAIT_S / 2, MAX_WAIT_S / 2)
"""Doubles from the first wait to the longest. Half of it is random, so that requests which failed together do not come
back together; it decides no result, so it is not seeded."""
RETRIED = frozenset({408, 425, 429})


class ServerRefusal(PolicyError):
    """A 4xx response that a retry cannot fix."""

    def __init__(self, status: int, text: str, where: str) -> None:
        self.status, self.text = status, text
        super().__init__(f"{where} answered {status}: {text}")


class _RetryableError(Exception):
    """A failed attempt that may be retried. `wait_s` is the server's `Retry-After`."""

    def __init__(self, why: str, wait_s: float | None = None) -> None:
        super().__init__(why)
        self.wait_s = wait_s


@dataclass
class Pace:
    """Times of the next requests: at least the rate limit's interval apart, and after the end of a pause."""

    interval_s: float = 0.0
    """Seconds between two requests."""
    _free_at: float = field(default=0.0, init=False)
    _held_until: float = field(default=0.0, init=False)

    def slot(self) -> float:
        """Reserves the next start time, a value of `time.monotonic`."""
        departure = max(time.monotonic(), self._free_at)
        self._free_at = departure + self.interval_s
        return departure

    def pause(self, seconds: float) -> None:
        """Delays all requests that have not started, also those with a reserved time."""
        self._held_until = max(self._held_until, time.monotonic() + seconds)
        self._free_at = max(self._free_at, self._held_until)

    async def wait_turn(self) -> None:
        """Waits until a request may start. If a pause began meanwhile, reserves a new time after it."""
        departure = -1.0
        while departure < self._held_until:
            departure = self.slot()
            await asyncio.sleep(departure - time.monotonic())


def retry_after_s(header: str | None) -> float | None:
    """Seconds of a `Retry-After` header (a number or an HTTP date); None if it is not usable."""
    if header is None:
        return None
    try:
        wait = float(header)
    except ValueError:
        try:
            until = parsedate_to_datetime(header)
        except ValueError:
            return None
        wait = (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return max(0.0, wait) if wait < float("inf") else None


def _backoff_s(state: RetryCallState) -> float:
    """The back-off before the next attempt; 0 if the server gave a time, which `Pace` waits for."""
    failure = state.outcome.exception() if state.outcome else None
    return BACKOFF(state) if isinstance(failure, _RetryableError) and failure.wait_s is None else 0.0


class _Limits(stop_base):
    """Stops after a number of attempts, or when the next back-off would exceed the remaining seconds."""

    def __init__(self, attempts: int, left_s: Callable[[], float]) -> None:
        self._attempts, self._left_s = attempts, left_s

    def __call__(self, state: RetryCallState) -> bool:
        return state.attempt_number >= self._attempts or state.idle_for + state.upcoming_sleep >= self._left_s()


def error_text(content: bytes) -> str:
    """The message in the body of an error response, shortened to one line."""
    try:
        values = json.loads(content)
    except ValueError:
        values = content.decode(errors="replace")
    if isinstance(values, Mapping):
        inner = values.get("error", values)
        values = inner.get("message", inner) if isinstance(inner, Mapping) else inner
        values = values.get("detail", values) if isinstance(values, Mapping) else values
    return visible_line(" ".join(str(values).split()), 500) or "(nothing)"


class ApiClient:
    """Requests to one server. Must be used on one event loop."""

    def __init__(
        self,
        base_url: str,
        config: OpenAIConfig,
        api_key: str | None,
        require_server: Callable[[], None] = lambda: None,
    ) -> None:
        """`require_server` is called on connection errors: it raises PolicyError if waiting is useless."""
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self.base_url, self.api_key = base_url.rstrip("/"), api_key
        self.host = httpx.URL(base_url).netloc.decode()
        self.concurrency = config.concurrency
        self._config, self._require_server = config, require_server
        self._pace = Pace(60 / config.requests_per_minute if config.requests_per_minute else 0.0)
        self._room = asyncio.Semaphore(config.concurrency)
        # trust_env would read the netrc file: its password would go out in place of no key
        self._http = httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(config.timeout_s, pool=None),
            limits=httpx.Limits(max_connections=config.concurrency + 1, max_keepalive_connections=config.concurrency),
            trust_env=not is_local(base_url),
        )

    async def get(self, path: str) -> Any:
        """The JSON at a path. Raises as `post`."""
        return await self._persist("GET", path, None, httpx.Response.json)

    async def post(self, path: str, body: Mapping[str, Any], read: Callable[[Any], Result]) -> Result:
        """`read` of the JSON response; a ValueError, KeyError, TypeError or IndexError of it counts as an unexpected
        response.

        Raises:
            ServerRefusal: a 4xx that a retry cannot fix.
            PolicyError: no usable response within the configured attempts and seconds.
        """
        return await self._persist("POST", path, body, lambda response: read(response.json()))

    async def post_text(self, path: str, body: Mapping[str, Any]) -> str:
        """The plain text of the response. Raises as `post`."""
        return await self._persist("POST", path, body, lambda response: response.text)

    async def _persist(
        self, method: str, path: str, body: Mapping[str, Any] | None, read: Callable[[httpx.Response], Result]
    ) -> Result:
        left_s = self._config.give_up_after_s

        async def attempt() -> Result:
            nonlocal left_s
            await self._pace.wait_turn()
            started = time.monotonic()
            try:
                return await self._attempt(method, path, body, read, left_s)
            except _RetryableError as failure:
                left_s -= time.monotonic() - started + (failure.wait_s or 0.0)
                if failure.wait_s is not None:
                    self._pace.pause(failure.wait_s)
                raise

        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_RetryableError),
            wait=_backoff_s,
            stop=_Limits(self._config.retries + 1, lambda: left_s),
        )
        try:
            async with self._room:
                return await retrying(attempt)
        except RetryError as error:
            last = error.last_attempt
            raise PolicyError(
                f"{self.base_url}{path} gave no usable answer in {last.attempt_number} attempt(s); the last: "
                f"{last.exception()}"
            ) from last.exception()

    async def _attempt(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        read: Callable[[httpx.Response], Result],
        left_s: float,
    ) -> Result:
        limit = min(self._config.timeout_s, left_s)
        try:
            async with asyncio.timeout(limit):  # httpx's own time-outs are for each read, not for the whole
                response = await self._http.request(method, self.base_url + path, json=body)
        except (TimeoutError, httpx.TimeoutException) as error:
            raise _RetryableError(f"no answer in {limit:g} s") from error
        except httpx.TransportError as error:
            self._require_server()
            raise _RetryableError(f"no connection ({type(error).__name__}: {error})") from error
        if response.status_code in RETRIED or response.status_code >= 500:
            wait = retry_after_s(response.headers.get("retry-after"))
            raise _RetryableError(f"{response.status_code}: {error_text(response.content)}", wait)
        if not response.is_success:
            raise ServerRefusal(response.status_code, error_text(response.content), self.base_url + path)
        try:
            return read(response)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise _RetryableError(f"an answer that cannot be read ({type(error).__name__}: {error})") from error

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()


def is_local(url: str) -> bool:
    """Whether the address is a loopback address."""
    return httpx.URL(url).host in ("127.0.0.1", "localhost", "::1")
