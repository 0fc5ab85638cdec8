"""Who holds a run: alive, dead, or on another machine that has gone silent."""

import os
import time
from pathlib import Path

import pytest

from oel_core.runs.folder import LEASE, open_run
from oel_core.runs.holders import Holder, holder_of, holders
from oel_core.runs.lease import STALE_S, Lease
from oel_core.runs.processes import Process, this_machine, this_process


def left_by(root: Path, name: str, holder: Process, age_s: float = 0.0) -> Holder | None:
    run = open_run(root, name)
    path = run.path / LEASE
    path.write_text(Lease(id="1", holder=holder, purpose="a test", since=0.0).model_dump_json())
    os.utime(path, (time.time() - age_s,) * 2)
    return holder_of(run)


def test_a_run_that_nobody_works_on_has_no_holder(tmp_path: Path) -> None:
    assert holder_of(open_run(tmp_path, "free")) is None
    assert holders(tmp_path) == []


@pytest.mark.parametrize("age_s", [0.0, 10 * STALE_S])
def test_a_living_process_of_this_machine_holds_however_long_it_was_silent(tmp_path: Path, age_s: float) -> None:
    found = left_by(tmp_path, "lake", this_process(), age_s)
    assert found is not None
    assert (found.state, found.run) == ("alive", "lake")


def test_a_process_that_is_gone_is_dead(tmp_path: Path) -> None:
    found = left_by(tmp_path, "lake", this_process().model_copy(update={"born": "7"}))
    assert found is not None
    assert found.state == "dead"


@pytest.mark.parametrize(("age_s", "state"), [(0.0, "alive"), (10 * STALE_S, "silent")])
def test_another_machine_is_judged_by_its_heartbeat(tmp_path: Path, age_s: float, state: str) -> None:
    elsewhere = this_machine().model_copy(update={"host": "elsewhere"})
    found = left_by(tmp_path, "lake", this_process().model_copy(update={"machine": elsewhere}), age_s)
    assert found is not None
    assert found.state == state
    assert [one.run for one in holders(tmp_path)] == ["lake"]
