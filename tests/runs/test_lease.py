"""The lease: one holder, dead holders are replaced at once, remote ones are observed, clocks do not matter."""

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from oel_core.errors import BusyError
from oel_core.runs import lease
from oel_core.runs.files import write_atomic
from oel_core.runs.lease import Lease, describe, held, read_lease, remove_own_lease
from oel_core.runs.processes import Machine, Process, this_process

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "lease.json"


def write(path: Path, holder: Process, beats: int = 0) -> None:
    found = Lease(id="other", holder=holder, purpose="round", since=0.0, beats=beats)
    write_atomic(path, found.model_dump_json().encode())


def elsewhere() -> Process:
    return Process(machine=Machine(host="another-machine", boot="b"), pid=1, born="1")


def test_it_is_there_while_held_and_gone_after(path: Path) -> None:
    with held(path, "a round") as own:
        assert read_lease(path) == own
        assert own.holder == this_process()
        assert f"process {os.getpid()} on" in describe(own)
        with pytest.raises(BusyError, match=f"in use by process {os.getpid()} on .*a round"), held(path, "another"):
            pass
        assert read_lease(path) == own
    assert read_lease(path) is None


def _hold_for_ever(path: Path, ready: Any) -> None:
    with held(path, "first"):
        ready.set()
        time.sleep(60)


def _hold_for_a_moment(path: Path, ready: Any) -> None:
    with held(path, "first"):
        ready.set()
        time.sleep(1)


def test_a_killed_holder_is_replaced_at_once(path: Path) -> None:
    ready = FORK.Event()
    other = FORK.Process(target=_hold_for_ever, args=(path, ready))
    other.start()
    assert ready.wait(20)
    with pytest.raises(BusyError), held(path, "second"):
        pass
    assert other.pid is not None
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    assert read_lease(path) is not None
    with held(path, "second") as own:
        assert read_lease(path) == own


def test_a_queued_one_waits_for_its_turn(path: Path) -> None:
    ready, told = FORK.Event(), []
    other = FORK.Process(target=_hold_for_a_moment, args=(path, ready))
    other.start()
    assert ready.wait(20)
    with held(path, "second", wait_s=30, on_wait=told.append):
        assert [found.purpose for found in told] == ["first"]
    other.join()


def _count(path: Path, counter: Path, results: Any) -> None:
    with held(path, "count", wait_s=60):
        before = int(counter.read_text())
        time.sleep(0.01)
        counter.write_text(str(before + 1))


def test_many_at_once_never_meet(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "POLL_S", 0.01)
    counter = tmp_path / "counter"
    counter.write_text("0")
    workers = [FORK.Process(target=_count, args=(path, counter, None)) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert counter.read_text() == "6"


@pytest.mark.parametrize(
    "change",
    [
        {"born": "1"},
        {"pid": 2**22 + 1},
        {"machine": this_process().machine.model_copy(update={"boot": "an earlier start"})},
    ],
)
def test_another_process_under_the_same_id_is_not_the_holder(path: Path, change: dict[str, Any]) -> None:
    write(path, this_process().model_copy(update=change))
    with held(path, "mine"):
        pass


def test_a_holder_elsewhere_counts_as_dead_only_after_its_heartbeat_stood_still(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever does not want to wait for a living holder still has to find out whether it lives."""
    write(path, elsewhere())
    monkeypatch.setattr(lease, "STALE_S", 1.0)
    monkeypatch.setattr(lease, "POLL_S", 0.05)
    began = time.monotonic()
    with held(path, "mine"):
        assert time.monotonic() - began >= 1.0


def test_a_holder_elsewhere_whose_heart_beats_is_in_the_way(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "POLL_S", 0.05)
    write(path, elsewhere())
    beat = threading.Timer(0.5, write, (path, elsewhere(), 1))
    beat.start()
    with pytest.raises(BusyError, match="another-machine"), held(path, "mine"):
        pass
    beat.join()


def test_a_beating_heart_elsewhere_keeps_the_lease(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "STALE_S", 0.5)
    watch, found = lease.HeartbeatObserver(), Lease(id="other", holder=elsewhere(), purpose="round", since=0.0)
    for beats in range(4):
        assert not lease.is_dead(found.model_copy(update={"beats": beats}), watch)
        time.sleep(0.3)
    time.sleep(0.3)
    assert lease.is_dead(found.model_copy(update={"beats": 3}), watch)


def test_the_heart_beats_and_stops_for_a_new_holder(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT_S", 0.02)
    with held(path, "mine"):
        until = time.monotonic() + 20
        while (read_lease(path) or pytest.fail("lease is gone")).beats < 2 and time.monotonic() < until:
            time.sleep(0.02)
        assert (read_lease(path) or pytest.fail("lease is gone")).beats >= 2
        with lease._critical(path):  # as whoever takes a lease over does
            write(path, elsewhere())
        time.sleep(0.1)
    stolen = read_lease(path)
    assert stolen is not None
    assert stolen.holder == elsewhere()


@pytest.mark.parametrize("jump", [-1e9, 1e9])
def test_a_clock_that_jumps_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    ready = FORK.Event()
    other = FORK.Process(target=_hold_for_ever, args=(path, ready))
    other.start()
    assert ready.wait(20)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + jump)
    with pytest.raises(BusyError), held(path, "mine"):
        pass
    other.kill()
    other.join()
    with held(path, "mine"):
        pass


def test_only_the_holder_drops_it(path: Path) -> None:
    write(path, elsewhere())
    remove_own_lease(path)
    assert path.exists()
    write(path, this_process())
    remove_own_lease(path)
    assert not path.exists()
