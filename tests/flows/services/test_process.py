"""Detached services, without real servers: start, crash detection, restart, termination of process groups."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.services.control import down, no_process_runs, up
from flows.services.process import (
    Service,
    Started,
    end,
    find,
    log_path,
    runs,
    start,
    started,
    state_path,
    tail,
    wait_until_healthy,
)
from flows.services.servers import UpSettings
from oel_core.errors import ServiceError
from oel_core.runs.groups import group_is_running, group_members

PARENT = "import subprocess, sys, time; subprocess.Popen(['sleep', '60']); print('up', flush=True); time.sleep(60)"


def service(
    root: Path, code: str = PARENT, *, keeps_children: bool = False, environment: dict[str, str] | None = None
) -> Service:
    """Healthy once it has said so in its log."""
    return Service(
        "thing",
        [sys.executable, "-c", code],
        environment or {},
        "http://127.0.0.1:1",
        lambda: "up" in log_path(root, "thing").read_text().splitlines(),
        keeps_children,
    )


def gone(group: int) -> bool:
    until = time.monotonic() + 20
    while group_is_running(group) and time.monotonic() < until:
        time.sleep(0.02)
    return not group_is_running(group)


def kill(one: Started) -> None:
    """The leader alone, as SIGKILL of a server would."""
    os.kill(one.process.pid, signal.SIGKILL)
    os.waitpid(one.process.pid, 0)


def test_it_leads_a_session_of_its_own_and_ends_with_its_children(tmp_path: Path) -> None:
    one = start(tmp_path, service(tmp_path))
    wait_until_healthy(tmp_path, service(tmp_path), one, 20)
    assert os.getsid(one.process.pid) == one.process.pid != os.getsid(0)
    assert len(group_members(one.process.pid)) == 2
    assert find(tmp_path, "thing") == one
    assert not no_process_runs(tmp_path)
    end(tmp_path, one, grace_s=5)
    assert gone(one.process.pid)
    assert started(tmp_path) == []
    assert no_process_runs(tmp_path)


def test_it_outlives_the_process_that_started_it(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.flows.services.test_process import service, start; "
        "root = Path(sys.argv[1]); start(root, service(root))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    one = find(tmp_path, "thing")
    assert one is not None
    assert runs(one)
    end(tmp_path, one, grace_s=5)
    assert gone(one.process.pid)


def test_a_dead_server_is_known_and_its_leftovers_go_when_it_is_started_again(tmp_path: Path) -> None:
    first = start(tmp_path, service(tmp_path))
    wait_until_healthy(tmp_path, service(tmp_path), first, 20)
    kill(first)
    assert not runs(first)
    assert group_is_running(first.process.pid)
    second = start(tmp_path, service(tmp_path))
    assert gone(first.process.pid)
    assert second.groups == (second.process.pid,)
    end(tmp_path, second, grace_s=5)


def test_what_a_dead_worker_left_may_finish_but_ends_with_the_next_one(tmp_path: Path) -> None:
    worker = service(tmp_path, keeps_children=True)
    first = start(tmp_path, worker)
    wait_until_healthy(tmp_path, worker, first, 20)
    kill(first)
    second = start(tmp_path, worker)
    assert group_is_running(first.process.pid)
    assert second.groups == (second.process.pid, first.process.pid)
    end(tmp_path, second, grace_s=5)
    assert gone(first.process.pid)
    assert gone(second.process.pid)


def test_a_recycled_process_id_is_nobody_to_end(tmp_path: Path) -> None:
    stranger = subprocess.Popen(["sleep", "60"])
    one = start(tmp_path, service(tmp_path))
    end(tmp_path, one, grace_s=5)
    faked = one.model_copy(
        update={"process": one.process.model_copy(update={"pid": stranger.pid, "born": "1"}), "groups": ()}
    )
    state_path(tmp_path, "thing").write_text(faked.model_dump_json())
    assert not runs(faked)
    end(tmp_path, faked, grace_s=0.1)
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_groups_of_an_earlier_start_of_the_machine_are_not_ended(tmp_path: Path) -> None:
    stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)
    one = start(tmp_path, service(tmp_path))
    end(tmp_path, one, grace_s=5)
    machine = one.process.machine.model_copy(update={"boot": "an earlier start"})
    old = one.model_copy(
        update={"process": one.process.model_copy(update={"machine": machine}), "groups": (stranger.pid,)}
    )
    assert not runs(old)
    end(tmp_path, old, grace_s=0.1)
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_a_service_that_ends_or_hangs_at_start_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    failing = service(tmp_path, "print('no disk left'); raise SystemExit(3)")
    one = start(tmp_path, failing)
    with pytest.raises(ServiceError, match=r"(?s)thing ended while it was starting:.*no disk left.*log: "):
        wait_until_healthy(tmp_path, failing, one, 20)
    hanging = service(tmp_path, "import time; time.sleep(60)")
    second = start(tmp_path, hanging)
    with pytest.raises(ServiceError, match="did not answer at http"):
        wait_until_healthy(tmp_path, hanging, second, 0.2)
    end(tmp_path, second, grace_s=5)
    missing = Service("other", ["/no/such/program"], {}, "", lambda: True)
    with pytest.raises(ServiceError, match="other cannot be started"):
        start(tmp_path, missing)


def test_secrets_of_the_environment_are_not_written_down(tmp_path: Path) -> None:
    one = start(tmp_path, service(tmp_path, environment={"DATABASE": "postgresql://me:hunter2@db/x"}))
    end(tmp_path, one, grace_s=5)
    assert "hunter2" not in one.model_dump_json() + tail(tmp_path, "thing")
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"hunter2" not in path.read_bytes()


def test_a_service_of_another_machine_is_said_at_once_with_the_way_out(tmp_path: Path) -> None:
    one = start(tmp_path, service(tmp_path))
    end(tmp_path, one, grace_s=5)
    machine = one.process.machine.model_copy(update={"host": "a-container-that-is-gone"})
    other = one.model_copy(update={"process": one.process.model_copy(update={"machine": machine})})
    state_path(tmp_path, "thing").write_text(other.model_dump_json())
    for act in (
        lambda: up(tmp_path, UpSettings(), None, expose=False, timeout_s=1, say=lambda line: None),
        lambda: down(tmp_path, grace_s=1, say=lambda line: None),
    ):
        with pytest.raises(ServiceError, match=r"started on a-container-that-is-gone.*delete .*thing\.json"):
            act()


def test_a_root_that_is_not_there_is_not_made_to_end_nothing(tmp_path: Path) -> None:
    assert down(tmp_path / "typo", grace_s=1, say=lambda line: None) == []
    assert not (tmp_path / "typo").exists()
