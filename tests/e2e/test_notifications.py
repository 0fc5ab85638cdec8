"""From planted feedback to a message: an alarm, a rollback, the server's automation and a webhook on this machine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oel_core.config.run import parse_config
from oel_core.runs.folder import RunFolder, adopt_config, open_run
from oel_core.runs.jsonl import jsonl_bytes
from tasks.tracking.client import tracker_of
from tasks.tracking.registry import Registry
from tasks.tracking.settings import TrackingSettings
from tests.cases.sessions import people, session
from tests.e2e.operating import Services, until
from tests.webhook import webhook

pytestmark = pytest.mark.services
VARIABLE, PATH = "CHAT_WEBHOOK", "/secret-path"


@pytest.fixture
def chat() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A webhook on this machine: its address, and what it got."""
    with webhook(PATH) as found:
        yield found


def planted(root: Path) -> RunFolder:
    """A project whose version 2 people call wrong, and that was right with version 1. Both are registered."""
    run, inbox = open_run(root, "planted"), root / "planted-inbox"
    values = {"experience": {"inbox": str(inbox)}, "alarms": {"rollback": "on"}}
    adopt_config(run, parse_config(values, "test"))
    sessions = []
    for number in range(60):
        found = session("e", ("Close A1", "It is closed."), given=(people(thumbs=number < 30),))
        policy = f"planted-{1 if number < 30 else 2}-0123"
        sessions.append(found.model_copy(update={"policy": policy, "at": 1e9 + number}))
    inbox.mkdir()
    (inbox / "a.jsonl").write_bytes(jsonl_bytes(sessions))
    tracker = tracker_of(TrackingSettings(), run)
    for number in (1, 2):
        (run.path / str(number)).mkdir()
        tracker.register(str(number), run.path / str(number), f"digest{number}")
        registry = Registry(tracker)
        registry.promote(registry.version_of_round(number), id=str(number), reason="planted")
    return run


def test_an_alarm_and_two_rollbacks_reach_a_webhook_by_one_command(
    services: Services, chat: tuple[str, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, got = chat
    monkeypatch.setenv(VARIABLE, address)
    assert "nobody is notified" in services.oel("notify")
    said = services.oel("notify", "--webhook-env", VARIABLE) + services.oel("notify", "--webhook-env", VARIABLE)
    assert said == 2 * "alarms and rollbacks go to webhook/oel-alarms\n", "set twice is set once"
    run = planted(services.root)
    shown = services.oel("status", run.name, "--notify", code=None)
    assert "version 1, round 1" in shown, "rolled back before it is shown"
    services.oel("rollback", run.name, "--reason", "by <me>")
    until(lambda: len(got) >= 3, f"the automation calls the webhook thrice, not {got}\n{services.logs()}")
    by_event = sorted((one["event"], one["details"]["project"], one["text"]) for one in got)
    assert [event for event, _, _ in by_event] == ["oel.alarm.champion", "oel.rollback", "oel.rollback"]
    assert {project for _, project, _ in by_event} == {run.name}
    assert "people called right 0.0% of the champion's 30 rated sessions" in by_event[0][2]
    assert any("by <me>" in text for _, _, text in by_event)
    assert services.oel("notify", "--off") == "nobody is notified of alarms and rollbacks\n"
    assert "oel-alarms" not in {one["name"] for one in services.api("block_documents/filter", {})}
    assert PATH not in services.logs()


def test_a_block_that_does_not_exist_is_named(services: Services) -> None:
    services.oel("notify", "slack-webhook/team", code=2)
