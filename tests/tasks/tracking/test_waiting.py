"""Retries while the tracking database is unavailable: only then, and without duplicates."""

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

from tasks.tracking import waiting
from tasks.tracking.waiting import RetryingClient, is_unavailable, retried


def away(words: str = "database is locked") -> MlflowException:
    return MlflowException(words, error_code=TEMPORARILY_UNAVAILABLE)


class Work:
    """Fails with the given errors in turn, then says how often it was asked."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors, self.calls = list(errors), 0

    def __call__(self) -> int:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return self.calls


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "FIRST_PAUSE_S", 0.0)


def test_it_goes_on_when_the_database_is_back() -> None:
    wrapped = RuntimeError("logging failed")
    wrapped.__cause__ = away()
    assert retried(Work(away(), wrapped)) == 3


def test_it_gives_up_some_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "TIMEOUT_S", -1.0)
    work = Work(away(), away())
    with pytest.raises(MlflowException):
        retried(work)
    assert work.calls == 1


@pytest.mark.parametrize(
    "error", [MlflowException("no such run"), away("database or disk is full"), OSError("no space"), ValueError("x")]
)
def test_what_waiting_does_not_help_is_raised_at_once(error: Exception) -> None:
    work = Work(error)
    with pytest.raises(type(error)):
        retried(work)
    assert work.calls == 1
    assert not is_unavailable(error)


def test_an_interrupt_while_the_database_is_away_is_raised_at_once() -> None:
    interrupt = KeyboardInterrupt()
    interrupt.__context__ = away()
    work = Work(interrupt)
    with pytest.raises(KeyboardInterrupt):
        retried(work)
    assert work.calls == 1


class Client:
    def __init__(self) -> None:
        self.asked: list[str] = []

    def get_run(self, name: str) -> str:
        self.asked.append(name)
        if len(self.asked) == 1:
            raise away()
        return name

    def create_run(self, name: str) -> str:
        return self.get_run(name)


def test_a_client_asks_again_but_makes_nothing_again() -> None:
    client = Client()
    assert RetryingClient(client).get_run("a") == "a"
    assert client.asked == ["a", "a"]
    fresh = Client()
    with pytest.raises(MlflowException):
        RetryingClient(fresh).create_run("a")
    assert fresh.asked == ["a"]
