"""Dispatch: every result once and in order, whatever finishes first and whichever workers are lost."""

import threading
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oel_core.errors import ConfigError, PolicyError
from oel_core.policies.replicated.dispatch import MAX_LOSSES, dispatch
from tests.policies.replicated.workers import FakeWorker, ThreadWorker


def double(number: int) -> int:
    return 2 * number


def test_results_are_in_the_order_of_the_items_though_the_last_finishes_first() -> None:
    finished = [threading.Event() for _ in range(4)]
    finished[3].set()

    def after_the_next(number: int) -> int:
        assert finished[number + 1].wait(60)
        finished[number].set()
        return number

    assert list(dispatch([ThreadWorker() for _ in range(3)], after_the_next, range(3))) == [0, 1, 2]


@given(
    count=st.integers(0, 20),
    lost=st.lists(st.sets(st.integers(0, 30), max_size=MAX_LOSSES - 1), min_size=1, max_size=1)
    | st.lists(st.just(set[int]()) | st.just({0, 2}), min_size=2, max_size=4).filter(lambda sets: not all(sets)),
)
def test_no_loss_of_a_worker_loses_or_doubles_a_result(count: int, lost: list[set[int]]) -> None:
    workers = [FakeWorker(own) for own in lost]
    assert list(dispatch(workers, double, range(count))) == [2 * number for number in range(count)]
    losses = sum(worker.started - 1 for worker in workers)
    assert sum(worker.calls for worker in workers) == count + losses


def test_an_item_is_not_retried_for_ever() -> None:
    worker = FakeWorker(lost=range(100))
    with pytest.raises(PolicyError, match=rf"batch 1 .* {MAX_LOSSES} workers.*killed"):
        list(dispatch([worker], double, [1, 2]))
    assert worker.calls == MAX_LOSSES


def test_a_worker_that_waits_for_room_holds_nobody_up() -> None:
    waiting = FakeWorker(starts=None)
    assert list(dispatch([waiting, FakeWorker()], double, range(5))) == [0, 2, 4, 6, 8]
    assert waiting.calls == 0


def test_a_worker_that_cannot_be_started_ends_the_run() -> None:
    with pytest.raises(PolicyError, match=r"could not start .*no such package"):
        list(dispatch([FakeWorker(starts=False), FakeWorker(starts=None)], double, range(5)))


def test_errors_of_the_work_are_raised_as_they_are() -> None:
    def fail(number: int) -> int:
        raise ConfigError(f"not {number}")

    with pytest.raises(ConfigError, match=r"^not 7$"):
        list(dispatch([FakeWorker()], fail, [7]))


def test_items_are_taken_when_a_worker_is_free_for_them() -> None:
    taken = Counter[int]()

    def items() -> Iterator[int]:
        for number in range(100):
            taken[number] += 1
            yield number

    results = dispatch([FakeWorker(), FakeWorker()], double, items())
    assert [next(results) for _ in range(4)] == [0, 2, 4, 6]
    assert len(taken) <= 4 + 2
