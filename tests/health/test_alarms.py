"""Alarms: which hold, who is told once, and a champion that does worse than the one before it is rolled back."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from oel_core.cases.scorers.agreement import Agreement
from oel_core.config.operation import AlarmsConfig
from oel_core.config.run import parse_config
from oel_core.errors import ConfigError
from oel_core.health.alarms import Finding, examine, read_alarms
from oel_core.health.project import project_findings
from oel_core.health.sessions import Session
from oel_core.runs.folder import RunFolder, adopt_config, open_run
from oel_core.runs.jsonl import jsonl_bytes
from tasks import alarms
from tasks import events as sending
from tasks.alarms import watch
from tasks.tracking.registry import Move, Registry
from tests.cases.sessions import people, session
from tests.webhook import webhook

SMALL = AlarmsConfig(window=10, level=0.01)


def served(version: str, *right: bool | None, asked: str = "close order A1", at: float = 0.0) -> list[Session]:
    return [Session(at + number, f"shop-{version}-0123", asked, one) for number, one in enumerate(right)]


def alarming(found: list[Session], *judged: Agreement) -> dict[str, bool]:
    return {one.name: one.alarm for one in examine(found, judged, "shop", "2", "1", SMALL)}


def test_nothing_is_said_about_too_little() -> None:
    assert alarming([]) == {}
    assert alarming(served("2", *[None] * 12)) == {}


def test_a_champion_that_people_like_less_than_the_one_before_is_found() -> None:
    before, own = served("1", *[True] * 30), served("2", *[False] * 30)
    assert alarming([*before, *own])["champion"]
    assert not alarming([*before, *served("2", *[True] * 30)])["champion"]
    assert not alarming([*served("21", *[True] * 30), *served("2", *[False] * 5)]).get("champion", False)


def test_the_presets_model_is_not_compared_with_itself() -> None:
    found = [Session(at, "shop-base-0123", "close order A1", at > 9) for at in range(20)]
    assert [one.name for one in examine(found, (), "shop", "base", "base", SMALL)] == ["requests", "success"]


def test_success_that_falls_and_requests_that_change_are_found() -> None:
    steady = served("2", *[True] * 20)
    assert alarming(steady) == {"requests": False, "success": False}
    fallen = [*served("2", *[True] * 10), *served("2", *[False] * 10, asked="translate a poem", at=50)]
    assert alarming(fallen) == {"requests": True, "success": True}


def test_a_judge_that_agrees_less_is_found() -> None:
    good, bad = (Agreement(rated=40, agreed=agreed, people_passed=20, judge_passed=20) for agreed in (38, 15))
    assert not alarming([], good, good)["judge"]
    assert alarming([], good, good, bad)["judge"]


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """A webhook on this machine, and what it got."""
    with webhook("/secret-path") as (address, got):
        monkeypatch.setenv("OEL_ALARM_WEBHOOK", address)
        yield got


class Champions:
    """The part of a registry that alarms need: version 2 serves, after version 1."""

    def __init__(self) -> None:
        self.now: str | None = "2"
        self.reasons: list[str] = []

    def champion(self) -> Any:
        return SimpleNamespace(version=self.now) if self.now else None

    def aliased(self, alias: str) -> Any:
        return SimpleNamespace(version="1") if self.now == "2" else None

    def rollback(self, *, reason: str) -> Move:
        self.now = "1"
        self.reasons.append(reason)
        names = {
            "number": 3,
            "id": "rollback-3",
            "action": "rollback",
            "champion": "1",
            "previous": None,
            "replaced": "2",
        }
        return Move.model_validate({**names, "by": "somebody", "reason": reason, "at": 0.0})


def project(root: Path, rollback: str, own: bool) -> RunFolder:
    """A project whose inbox has sessions of versions 1, all right, and 2, all right or all wrong."""
    inbox = root / "inbox"
    inbox.mkdir()
    lines = []
    for number in range(60):
        thumbs = own if number >= 30 else True
        found = session("e", ("Close A1", "It is closed."), given=(people(thumbs=thumbs),))
        policy = "shop-2-0123" if number >= 30 else "shop-1-4567"
        lines.append(found.model_copy(update={"policy": policy, "at": 1e9 + number}))
    (inbox / "a.jsonl").write_bytes(jsonl_bytes(lines))
    values = {"experience": {"inbox": str(inbox)}, "alarms": {"rollback": rollback}}
    run = open_run(root, "shop")
    adopt_config(run, parse_config(values, "test"))
    return run


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, str]]]:
    sent: list[tuple[str, str]] = []

    def emit(event: str, *, resource: dict[str, str], payload: dict[str, Any]) -> None:
        sent.append((event, resource["prefect.resource.id"]))

    monkeypatch.setattr(sending, "emit_event", emit)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        yield sent


def test_a_worse_champion_is_told_of_once_and_rolled_back(
    tmp_path: Path, hook: list[dict[str, Any]], events: list[tuple[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    run, registry = project(tmp_path, "on", own=False), Champions()
    (told,) = watch(run, cast(Registry, registry))
    assert (told.name, told.about) == ("champion", "2")
    assert registry.now == "1"
    assert registry.reasons[0].startswith("alarm: people called right 0.0% of the champion's 30 rated sessions")
    assert [(one["project"], one["alarm"], one["rolled_back"]) for one in hook] == [("shop", "champion", True)]
    assert events == [(name, "oel.project.shop") for name in ("oel.alarm.champion", "oel.rollback")]
    assert "secret-path" not in caplog.text
    assert watch(run, cast(Registry, registry)) == []
    assert len(hook) == 1


def test_without_the_policy_it_is_only_told(
    tmp_path: Path, hook: list[dict[str, Any]], events: list[tuple[str, str]]
) -> None:
    run, registry = project(tmp_path, "off", own=False), Champions()
    assert [one.name for one in watch(run, cast(Registry, registry))] == ["champion"]
    assert registry.now == "2"
    assert watch(run, cast(Registry, registry)) == []
    assert [one.name for one in read_alarms(run).raised] == ["champion"]
    assert [one["rolled_back"] for one in hook] == [False]


def test_a_kill_before_it_is_noted_tells_again(
    tmp_path: Path, hook: list[dict[str, Any]], events: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, registry = project(tmp_path, "off", own=False), Champions()

    def killed(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(alarms, "note_alarms", killed)
        with pytest.raises(KeyboardInterrupt):
            watch(run, cast(Registry, registry))
    watch(run, cast(Registry, registry))
    assert len(hook) == 2


def test_without_a_prefect_server_none_is_started_for_the_event(
    tmp_path: Path, hook: list[dict[str, Any]], events: list[tuple[str, str]]
) -> None:
    run, registry = project(tmp_path, "on", own=False), Champions()
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        watch(run, cast(Registry, registry))
    assert events == []
    assert len(hook) == 1


def test_a_good_champion_is_left_alone(tmp_path: Path, events: list[tuple[str, str]]) -> None:
    run, registry = project(tmp_path, "on", own=True), Champions()
    assert watch(run, cast(Registry, registry)) == []
    assert (registry.now, events) == ("2", [])


def test_a_webhook_that_is_gone_stops_nothing_and_is_not_named(
    tmp_path: Path, events: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OEL_ALARM_WEBHOOK", "http://127.0.0.1:1/secret-path")
    run, registry = project(tmp_path, "on", own=False), Champions()
    watch(run, cast(Registry, registry))
    assert registry.now == "1"
    assert "could not be reached" in caplog.text
    assert "secret-path" not in caplog.text


@pytest.mark.parametrize("address", ["http://example.org/x", "ftp://127.0.0.1/x", "nothing"])
def test_alarms_do_not_go_over_the_net_unencrypted(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OEL_ALARM_WEBHOOK", address)
    with pytest.raises(ConfigError, match="must be an address with https://"):
        alarms.address_in(alarms.WEBHOOK)


def test_a_project_without_an_inbox_has_nothing_to_look_at(tmp_path: Path) -> None:
    run = open_run(tmp_path, "lake")
    adopt_config(run, parse_config({}, "test"))
    found: list[Finding] = project_findings(run.config(), run, "base", "base")
    assert found == []
