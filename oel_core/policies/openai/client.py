"""HTTP to a model server: bounded concurrency, a rate limit, retries with back-off, and one error type a cause.

What another attempt may cure is tried again: no connection, a time-out, 408, 425, 429, 5xx, and an answer that is not
the JSON it should be. `Retry-After` is honoured and holds back every request, not only the one it answered.
"""

import asyncio
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
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
BACKOFF = wait_exponential(FIRST_WAIT_S / 2, LONGEST_WAIT_S / 2) + wait_random_exponential(
    FIRST_WAIT_S / 2, LONGEST_WAIT_S / 2
)
"""Doubles from the first wait to the longest. Half of it is random, so that requests which failed together do not come
back together; it decides no result, so it is not seeded."""
RETRIED = frozenset({408, 425, 429})


class ServerRefusal(PolicyError):
    """The server answered that it will not: a 4xx that another attempt cannot cure."""

    def __init__(self, status: int, said: str, where: str) -> None:
        self.status, self.said = status, said
        super().__init__(f"{where} answered {status}: {said}")


class _Again(Exception):
    """This attempt failed; another may not. `wait_s` is what the server asked for."""

    def __init__(self, why: str, wait_s: float | None = None) -> None:
        super().__init__(why)
        self.wait_s = wait_s


@dataclass
class Pace:
    """When the next request may leave: never closer than the rate limit, never before a pause is over."""

    interval_s: float = 0.0
    """Between two departures."""
    _free_at: float = field(default=0.0, init=False)
    _held_until: float = field(default=0.0, init=False)

    def slot(self) -> float:
        """Takes the next departure, a reading of `time.monotonic`."""
        departure = max(time.monotonic(), self._free_at)
        self._free_at = departure + self.interval_s
        return departure

    def pause(self, seconds: float) -> None:
        """Lets nothing leave for so long, nor what has a departure already."""
        self._held_until = max(self._held_until, time.monotonic() + seconds)
        self._free_at = max(self._free_at, self._held_until)

    async def depart(self) -> None:
        """Waits until a request may leave. One that a pause has overtaken takes another departure behind it."""
        departure = -1.0
        while departure < self._held_until:
            departure = self.slot()
            await asyncio.sleep(departure - time.monotonic())


def retry_after_s(header: str | None) -> float | None:
    """Seconds that a `Retry-After` header asks for (a number, or an HTTP date); None when it says nothing usable."""
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


def _own_wait_s(state: RetryCallState) -> float:
    """The back-off before a request's next attempt; none where the server said how long, which `Pace` waits for."""
    failure = state.outcome.exception() if state.outcome else None
    return BACKOFF(state) if isinstance(failure, _Again) and failure.wait_s is None else 0.0


class _Limits(stop_base):
    """Ends the attempts after so many, or when the next back-off would not leave any of the seconds."""

    def __init__(self, attempts: int, left_s: Callable[[], float]) -> None:
        self._attempts, self._left_s = attempts, left_s

    def __call__(self, state: RetryCallState) -> bool:
        return state.attempt_number >= self._attempts or state.idle_for + state.upcoming_sleep >= self._left_s()


def said(response: httpx.Response) -> str:
    """What an error response says, in one short line."""
    try:
        values = response.json()
    except ValueError:
        values = response.text
    if isinstance(values, Mapping):
        inner = values.get("error", values)
        values = inner.get("message", inner) if isinstance(inner, Mapping) else inner
        values = values.get("detail", values) if isinstance(values, Mapping) else values
    return visible_line(" ".join(str(values).split()), 500) or "(nothing)"


class ApiClient:
    """Requests to one server. Use it on one event loop."""

    def __init__(
        self,
        base_url: str,
        config: OpenAIConfig,
        api_key: str | None,
        require_server: Callable[[], None] = lambda: None,
    ) -> None:
        """`require_server` is called when there is no connection: it raises PolicyError when waiting is useless."""
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self.base_url = base_url.rstrip("/")
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
        """`read` of the JSON that the server answers; a ValueError, KeyError, TypeError or IndexError of it counts as
        an answer that is not what it should be.

        Raises:
            ServerRefusal: a 4xx that another attempt cannot cure.
            PolicyError: no usable answer came within the configured attempts and seconds.
        """
        return await self._persist("POST", path, body, lambda response: read(response.json()))

    async def post_text(self, path: str, body: Mapping[str, Any]) -> str:
        """The plain text that the server answers. Raises as `post`."""
        return await self._persist("POST", path, body, lambda response: response.text)

    async def _persist(
        self, method: str, path: str, body: Mapping[str, Any] | None, read: Callable[[httpx.Response], Result]
    ) -> Result:
        left_s = self._config.give_up_after_s

        async def attempt() -> Result:
            nonlocal left_s
            await self._pace.depart()
            started = time.monotonic()
            try:
                return await self._attempt(method, path, body, read, left_s)
            except _Again as failure:
                left_s -= time.monotonic() - started + (failure.wait_s or 0.0)
                if failure.wait_s is not None:
                    self._pace.pause(failure.wait_s)
                raise

        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_Again),
            wait=_own_wait_s,
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
            raise _Again(f"no answer in {limit:g} s") from error
        except httpx.TransportError as error:
            self._require_server()
            raise _Again(f"no connection ({type(error).__name__}: {error})") from error
        if response.status_code in RETRIED or response.status_code >= 500:
            wait = retry_after_s(response.headers.get("retry-after"))
            raise _Again(f"{response.status_code}: {said(response)}", wait)
        if not response.is_success:
            raise ServerRefusal(response.status_code, said(response), self.base_url + path)
        try:
            return read(response)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise _Again(f"an answer that cannot be read ({type(error).__name__}: {error})") from error

    async def close(self) -> None:
        """Ends the connections."""
        await self._http.aclose()


def is_local(url: str) -> bool:
    """Whether the address is this machine's own."""
    return httpx.URL(url).host in ("127.0.0.1", "localhost", "::1")
