"""Outages of the Prefect server are waited for; other errors are raised."""

import httpx
import pytest

from flows.recovery import outages
from flows.recovery.outages import is_outage, through_outages
from oel_core.errors import PolicyError


class Work:
    """Fails with the given errors in turn, then succeeds."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors, self.calls = list(errors), 0

    def __call__(self) -> int:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return self.calls


@pytest.fixture
def health(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What the server's health says, call by call; the last answer stays."""
    said = [True]
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    monkeypatch.setattr(outages, "POLL_S", 0.0)
    monkeypatch.setattr(outages, "answers", lambda url: said.pop(0) if len(said) > 1 else said[0])
    return said


def wrapped() -> RuntimeError:
    error = RuntimeError("flow failed")
    error.__cause__ = httpx.ConnectError("refused")
    return error


def test_it_goes_on_when_the_server_is_back(health: list[bool]) -> None:
    health[:] = [False, False, True]
    work = Work(httpx.ConnectError("refused"), wrapped())
    assert through_outages(work) == 3


def test_it_gives_up_when_the_server_stays_away(health: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    health[:] = [False]
    monkeypatch.setattr(outages, "TIMEOUT_S", 0.05)
    with pytest.raises(httpx.ConnectError):
        through_outages(Work(httpx.ConnectError("refused")))


def test_other_failures_are_not_tried_again(health: list[bool]) -> None:
    work = Work(ValueError("wrong"))
    with pytest.raises(ValueError, match="wrong"):
        through_outages(work)
    assert work.calls == 1
    assert not is_outage(ValueError("wrong"))


def test_a_server_that_answers_and_fails_is_not_asked_for_ever(health: list[bool]) -> None:
    with pytest.raises(httpx.ReadError):
        through_outages(Work(*(httpx.ReadError("reset") for _ in range(outages.MAX_RETRIES + 1))))


def test_a_model_server_that_is_away_is_no_outage_of_prefect(health: list[bool]) -> None:
    error = PolicyError("http://127.0.0.1:8000 does not answer")
    error.__cause__ = httpx.ConnectError("refused")
    work = Work(error)
    with pytest.raises(PolicyError):
        through_outages(work)
    assert work.calls == 1


def test_an_outage_while_a_failure_is_reported_is_one() -> None:
    error = httpx.ConnectError("refused")
    error.__context__ = PolicyError("no answer")
    assert is_outage(error)


def test_an_interrupt_during_an_outage_is_raised_at_once(health: list[bool]) -> None:
    interrupt = KeyboardInterrupt()
    interrupt.__context__ = httpx.ConnectError("refused")
    work = Work(interrupt)
    with pytest.raises(KeyboardInterrupt):
        through_outages(work)
    assert work.calls == 1
