"""The claim on a stored run: one holder at a time, on any machine; dead holders are replaced."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from oel_core.errors import ArtifactError, BusyError, StoreError
from oel_core.runs import lease
from oel_core.runs.lease import HeartbeatObserver, Lease
from oel_core.runs.processes import Machine, Process, this_process
from oel_core.runs.stored import claim as claims
from oel_core.runs.stored.claim import Claim, claimed
from oel_core.runs.stored.objects import ObjectStore, object_store

Make = Callable[[], Claim]


@pytest.fixture
def make(url: str, monkeypatch: pytest.MonkeyPatch) -> Make:
    monkeypatch.setattr(claims, "POLL_S", 0.01)
    return lambda: Claim(object_store(url), "lake")


def of(holder: Process, id: str = "other") -> Lease:
    return Lease(id=id, holder=holder, purpose="round", since=0.0)


def elsewhere() -> Process:
    return Process(machine=Machine(host="another-machine", boot="b"), pid=1, born="1")


def dead() -> Process:
    return this_process().model_copy(update={"born": "1"})


def taken(claim: Claim, holder: Process, id: str = "other") -> bool:
    return claim.attempt(of(holder, id), HeartbeatObserver()) is None


def test_one_holder_at_a_time(make: Make) -> None:
    with claimed(make(), "a round"):
        with pytest.raises(BusyError, match=r"/lake is in use by process .*a round"), claimed(make(), "another"):
            pass
        assert make().current()[1] is not None
    assert make().current()[1] is None
    with claimed(make(), "a third"):
        pass


def test_a_store_without_conditional_creation_is_refused(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = make()

    def ignoring(store: ObjectStore, path: str, data: bytes) -> None:
        store.write(path, data)

    monkeypatch.setattr(type(claim.store), "_create", ignoring)
    with pytest.raises(StoreError, match="cannot keep two machines off one run"), claimed(claim, "a round"):
        pass
    assert claim.store.entries("") == {}


def test_of_many_that_claim_at_once_one_holds(make: Make) -> None:
    barrier, won = threading.Barrier(8), list[int]()
    first = make()
    assert taken(first, dead())

    def claim(number: int) -> None:
        own = make()
        barrier.wait()
        if taken(own, this_process(), str(number)):
            won.append(number)

    lock, original = threading.Lock(), MemoryFileSystem.pipe_file

    def pipe_file(*args: Any, **kwargs: Any) -> None:
        with lock:  # in memory, the check and the write of a conditional creation are two operations
            original(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryFileSystem, "pipe_file", pipe_file)
        threads = [threading.Thread(target=claim, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    holder = make().current()[1]
    assert holder is not None
    assert [str(number) for number in won] == [holder.id]


def test_a_dead_holder_of_this_machine_is_replaced_at_once(make: Make) -> None:
    assert taken(make(), dead())
    with claimed(make(), "next"):
        pass


def test_a_silent_holder_of_another_machine_is_replaced_after_a_while(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "STALE_S", 0.2)
    first = make()
    assert taken(first, elsewhere())
    waits: list[Lease] = []
    with claimed(make(), "next", on_wait=waits.append):
        with pytest.raises(BusyError, match="its claim on the run was taken over; it is held by process"):
            first.require()
        assert not first.renew()
        first.release()
        holder = make().current()[1]
        assert holder is not None
        assert holder.purpose == "next"
    assert [one.holder for one in waits] == [elsewhere()]


def test_a_holder_of_another_machine_that_renews_is_alive(make: Make) -> None:
    first = make()
    assert taken(first, elsewhere())
    with pytest.raises(BusyError), claimed(make(), "next", on_wait=lambda lease: first.renew() or None):
        pass
    first.require()


def test_renewals_leave_one_object(make: Make) -> None:
    own = make()
    assert taken(own, this_process())
    assert own.renew()
    assert own.renew()
    own.require()
    assert list(own.store.entries(own.folder)) == [f"{3:012d}.json"]


def test_a_number_that_was_used_and_removed_does_not_count(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    slow, fast = make(), make()
    assert taken(slow, dead())
    assert taken(fast, this_process(), "fast")
    assert fast.renew()  # number 3; 2, which `slow` is about to create, was removed
    assert not slow.renew()
    fast.require()
    with pytest.raises(BusyError):
        slow.require()
    assert list(fast.store.entries(fast.folder)) == [f"{3:012d}.json"]


def test_a_renewal_whose_answer_was_lost_counts(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    own, original = make(), MemoryFileSystem.pipe_file
    assert taken(own, this_process())
    answers = iter([True, False])

    def pipe_file(*args: Any, **kwargs: Any) -> None:
        original(*args, **kwargs)
        if next(answers, False):
            raise ConnectionResetError("reset")

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", pipe_file)
    assert own.renew()
    own.require()


def test_a_damaged_object_is_named(make: Make) -> None:
    own = make()
    own.store.write(f"{own.folder}/000000000001.json", b"{")
    with pytest.raises(ArtifactError, match=r"lake/lease/000000000001\.json is damaged"):
        own.current()
