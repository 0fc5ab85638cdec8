"""A paused flow run is resumed by the form, by `oel review` in another process, and by its timeout."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run
from prefect.testing.utilities import prefect_test_harness

from flows import reviewing
from oel_core.config.run import OelConfig, parse_config
from oel_core.knowledge.store import empty, merge, write_knowledge
from oel_core.projects.review import decide, decision_of
from oel_core.prompts.extraction import get_format
from oel_core.rounds.round import Round
from oel_core.runs.folder import RunFolder, open_run
from oel_core.stages.accumulate import SECTIONS, STAGE
from tests.builders import item

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def _server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=300):
        yield


def config(**review: Any) -> OelConfig:
    return parse_config({"collect": {"replicas": 1}, "review": {"mode": "required"} | review}, "test")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    monkeypatch.setattr(reviewing, "POLL_SECONDS", 1.0)
    found = open_run(tmp_path, "run")

    def work(folder: Path) -> dict[str, float]:
        items = [item(f"- EXPERIENCE ITEM: fact {number}") for number in range(3)]
        form = get_format("itemised")
        write_knowledge(folder, 0, merge(empty(0, 1), items, max_tokens=999, form=form, count_tokens=len))
        return {}

    from oel_core.runs.folder import stage_key

    found.perform(stage_key(config(), 1, STAGE, SECTIONS, {}), work)
    return found


def waited(configuration: OelConfig, run: RunFolder, meanwhile: Callable[[str], None]) -> str:
    """Runs a flow with a sub-flow that waits, calls `meanwhile` with the sub-flow's id, and returns its last state."""
    ids: list[str] = []

    @flow(name="inner")
    def inner() -> None:
        ids.append(str(flow_run.id))
        reviewing.wait_for_review(Round(configuration, run, 1))

    @flow(name="outer")
    def outer() -> None:
        inner()

    def act() -> None:
        while not ids:
            time.sleep(0.1)
        meanwhile(ids[0])

    thread = Thread(target=act)
    thread.start()
    outer()
    thread.join()
    with get_client(sync_client=True) as client:
        return str(client.read_flow_run(ids[0]).state_name)  # type: ignore[arg-type]


def paused(flow_run_id: str) -> None:
    with get_client(sync_client=True) as client:
        while client.read_flow_run(flow_run_id).state_name != "Paused":  # type: ignore[arg-type]
            time.sleep(0.2)


def resume(flow_run_id: str, **form: Any) -> None:
    paused(flow_run_id)
    with get_client(sync_client=True) as client:
        client.resume_flow_run(flow_run_id, run_input=form)  # type: ignore[arg-type]


def test_the_form_decides(run: RunFolder) -> None:
    state = waited(config(), run, lambda id: resume(id, decision="approve", drop="1, 3", note="n", author="ann"))
    made = decision_of(Round(config(), run, 1))
    assert made is not None
    assert (made.decision, made.dropped, made.author, made.via, state) == (
        "approve", (1, 3), "ann", "prefect", "Completed",
    )  # fmt: skip


def test_a_form_that_names_no_item_is_asked_for_again(run: RunFolder) -> None:
    def twice(id: str) -> None:
        resume(id, decision="approve", drop="77")
        time.sleep(2)
        resume(id, decision="reject", note="all wrong")

    assert waited(config(), run, twice) == "Completed"
    made = decision_of(Round(config(), run, 1))
    assert made is not None
    assert (made.decision, made.note) == ("reject", "all wrong")


def test_the_command_line_decides_for_a_paused_flow(run: RunFolder) -> None:
    def elsewhere(id: str) -> None:
        paused(id)
        decide(Round(config(), run, 1), reviewing._decision("approve", (2,), "", "bob", "oel review"))

    assert waited(config(), run, elsewhere) == "Completed"
    made = decision_of(Round(config(), run, 1))
    assert made is not None
    assert (made.author, made.dropped) == ("bob", (2,))


@pytest.mark.parametrize(("policy", "decided"), [("approve", "approve"), ("reject", "reject"), ("fail", None)])
def test_when_the_time_is_over_the_policy_decides(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, policy: str, decided: str | None
) -> None:
    configuration = config(timeout_minutes=1, on_timeout=policy)
    monkeypatch.setattr(reviewing, "ask", lambda round: time.time() - 57)  # three seconds are left
    assert waited(configuration, run, lambda id: None) == "Completed"
    made = decision_of(Round(config(), run, 1))
    assert (made.decision if made else None) == decided
    assert made is None or made.via == "timeout"


def test_a_decision_is_noticed_though_the_server_failed_once(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = [RuntimeError("503")]

    def sometimes(**options: Any) -> Any:
        if failures:
            raise failures.pop()
        return get_client(**options)

    monkeypatch.setattr(reviewing, "get_client", sometimes)

    def elsewhere(id: str) -> None:
        paused(id)
        decide(Round(config(), run, 1), reviewing._decision("approve", (), "", "bob", "oel review"))

    assert waited(config(), run, elsewhere) == "Completed"
    assert failures == []
