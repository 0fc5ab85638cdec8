"""Waiting: Retry-After, back-off, and the rate limit."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenacity import RetryCallState, Retrying

from oel_core.policies.openai import client as api_client
from oel_core.policies.openai.client import BACKOFF, FIRST_WAIT_S, MAX_WAIT_S, Pace, error_text, retry_after_s


@pytest.mark.parametrize(
    ("header", "wait"),
    [(None, None), ("3", 3.0), ("0.5", 0.5), ("-2", 0.0), ("soon", None), ("nan", None), ("inf", None)],
)
def test_retry_after_in_seconds(header: str | None, wait: float | None) -> None:
    assert retry_after_s(header) == wait


def test_retry_after_as_a_date() -> None:
    ahead = retry_after_s(format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True))
    assert ahead is not None
    assert 55 < ahead <= 60
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0


@given(st.text(max_size=40))
def test_retry_after_of_anything_is_no_error(header: str) -> None:
    wait = retry_after_s(header)
    assert wait is None or wait >= 0


@given(st.integers(0, 10_000))
def test_backoff_doubles_up_to_its_end(attempt: int) -> None:
    state = RetryCallState(Retrying(), None, (), {})
    state.attempt_number = attempt + 1
    whole = min(MAX_WAIT_S, FIRST_WAIT_S * 2 ** min(attempt, 16))
    assert whole / 2 <= BACKOFF(state) <= whole


def test_departures_keep_their_distance_and_wait_out_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(api_client.time, "monotonic", lambda: now)
    pace = Pace(interval_s=2)
    assert [pace.slot() for _ in range(3)] == [100, 102, 104]
    now = 110.0
    assert pace.slot() == 110
    pace.pause(30)
    assert [pace.slot(), pace.slot()] == [140, 142]
    pace.pause(1)  # shorter than what is waited for already
    assert pace.slot() == 144
    unlimited = Pace()
    assert [unlimited.slot() for _ in range(3)] == [110, 110, 110]


def test_a_pause_holds_back_what_has_a_departure_already() -> None:
    async def overtaken() -> float:
        pace = Pace(interval_s=0.05)
        await pace.wait_turn()
        late = asyncio.create_task(pace.wait_turn())
        await asyncio.sleep(0)  # it has taken its departure, in 0.05 s
        begun = time.monotonic()
        pace.pause(0.3)
        await late
        return time.monotonic() - begun

    assert asyncio.run(overtaken()) >= 0.29


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"error": {"message": "too  long\\n"}}', "too long"),
        (b'{"error": "no"}', "no"),
        (b'{"detail": "Not Found"}', "Not Found"),
        (b"<html>bad gateway</html>", "<html>bad gateway</html>"),
        (b"", "(nothing)"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"[1, 2]", "[1, 2]"),
    ],
)
def test_what_servers_say_is_one_line(content: bytes, expected: str) -> None:
    assert error_text(content) == expected
