"""What is deployed: every entry of the Prefect file has a flow, and its form says what each field means."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, get_args

import httpx
import pytest
import yaml
from prefect import State
from prefect.client.schemas.objects import DeploymentSchedule, StateType
from prefect.client.schemas.schedules import CronSchedule

import flows.deployed
from flows.cli.app import call
from flows.cli.services.deployments import parameters_of
from flows.cli.services.next_times import next_times, show_schedules
from flows.outcomes import SHOWN
from flows.pages.outcome import outcome_state
from flows.run_names import run_name
from flows.services.client import PREFECT_FILE
from oel_core.config.run import preset_names
from oel_core.errors import ConfigError
from oel_core.projects.triggers import Outcome, Trigger

DEPLOYMENTS = {entry["name"]: entry for entry in yaml.safe_load(PREFECT_FILE.read_text())["deployments"]}


def flow_of(name: str) -> Any:
    path, _, function = DEPLOYMENTS[name]["entrypoint"].partition(":")
    assert path == "flows/deployed.py"
    return getattr(flows.deployed, function)


def form(name: str) -> dict[str, Any]:
    return dict(flow_of(name).parameters.model_dump())


def deployment(name: str) -> Any:
    return SimpleNamespace(parameter_openapi_schema=form(name))


def test_there_are_four() -> None:
    assert set(DEPLOYMENTS) == {"learning-loop", "next-round", "collect-only", "evaluate-model"}


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_forms_are_typed_described_and_filled_in(name: str) -> None:
    assert flow_of(name).name == name
    assert DEPLOYMENTS[name]["work_pool"]["name"] == "{{ $OEL_POOL }}"
    assert "oel" in DEPLOYMENTS[name]["tags"]
    schema = form(name)
    assert schema["required"] == []
    for field, entry in schema["properties"].items():
        assert entry.get("description"), f"{name}: {field} has no description"
        assert "default" in entry, f"{name}: {field} has no default"
    assert schema["definitions"]["Preset"]["enum"] == preset_names()


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_no_flow_renames_the_flow_run_that_a_deployment_made(name: str) -> None:
    assert flow_of(name).flow_run_name is None


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("next-round", {"project": "lake"}, "lake"),
        ("next-round", {}, "quickstart"),
        ("collect-only", {"project": "lake"}, "lake collect"),
        ("evaluate-model", {"suite": "ifeval"}, "champion ifeval"),
        ("learning-loop", {"name": "{project}"}, "{project}"),
        ("somebody-elses", {"project": "lake"}, None),
    ],
)
def test_a_flow_run_is_named_when_it_is_made(name: str, given: dict[str, Any], expected: str | None) -> None:
    assert run_name(name, form(name) if name in DEPLOYMENTS else {}, given) == expected


def test_choices_are_enums() -> None:
    assert form("next-round")["definitions"]["WhenBusy"]["enum"] == ["refuse", "queue"]
    assert "games" in form("evaluate-model")["definitions"]["Suite"]["enum"]


def test_settings_are_parameters_or_overrides() -> None:
    found = parameters_of(
        deployment("next-round"), ["project=lake", "gate.margin=0.02", "overrides=[seed=3]", "distill.steps=5"]
    )
    assert found == {"project": "lake", "overrides": ["seed=3", "gate.margin=0.02", "distill.steps=5"]}
    assert parameters_of(deployment("collect-only"), ["episodes=12"]) == {"episodes": 12}
    words = parameters_of(deployment("next-round"), ["project=2026", "trigger=null"])
    assert words == {"project": "2026", "trigger": None}


@pytest.mark.parametrize("wrong", ["nonsense", "projct=lake", "nonsense.field=1", "project: lake", "overrides=[1"])
def test_what_is_neither_is_refused(wrong: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        parameters_of(deployment("next-round"), [wrong])


class Server:
    """Answers as Prefect's client does; every flow run is over at once."""

    def __init__(self, *schedules: Any) -> None:
        self.found = SimpleNamespace(
            id="d", name="next-round", parameter_openapi_schema=form("next-round"), schedules=list(schedules)
        )
        self.runs: dict[str, Any] = {}
        self.ends_as = State(type=StateType.COMPLETED, message="round 1 promoted")

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *problem: object) -> None:
        pass

    def read_deployment_by_name(self, name: str) -> Any:
        return SimpleNamespace(**{**vars(self.found), "schedules": list(self.found.schedules)})

    def create_flow_run_from_deployment(
        self, id: str, *, parameters: Any, name: str | None, idempotency_key: str | None = None
    ) -> Any:
        if parameters.get("when_busy") == "sometimes":
            answer = httpx.Response(409, json={"detail": "'sometimes' is not one of"}, request=REQUEST)
            raise httpx.HTTPStatusError("409", request=REQUEST, response=answer)
        new = SimpleNamespace(id=f"run-{len(self.runs)}", name=name, state=self.ends_as)
        return self.runs.setdefault(idempotency_key or str(len(self.runs)), new)

    def create_deployment_schedules(self, id: str, schedules: Any, *, parameters: Any) -> None:
        ((when, active),) = schedules
        self.found.schedules.append(SimpleNamespace(id=when.cron, schedule=when, active=active, parameters=parameters))

    def delete_deployment_schedule(self, id: str, schedule: str) -> None:
        self.found.schedules = [one for one in self.found.schedules if one.id != schedule]


REQUEST = httpx.Request("POST", "http://127.0.0.1:1/api")
Oel = Callable[..., tuple[int, str, str]]


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def oel(server: Server, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Oel:
    """A command against one server."""
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    monkeypatch.setattr("prefect.client.orchestration.get_client", lambda **options: server)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = call(list(arguments))
        return (code, *capfd.readouterr())

    return run


def test_ids_are_each_projects_own(oel: Oel) -> None:
    def started(*settings: str) -> str:
        code, out, _ = oel("trigger", "next-round", "--id", "monday", "--json", "--wait", *settings)
        assert code == 0
        return str(json.loads(out)["flow_run"])

    first = started("--set", "project=lake")
    assert started("--set", "project=lake") == first
    assert started("--set", "project=pond") != first


@pytest.mark.parametrize(
    ("outcome", "code"),
    [("promoted", 0), ("failed", 1), ("refused", 3), ("waiting", 4), ("undecided", 5), ("unusable", 6)],
)
def test_every_outcome_has_a_state_and_an_exit_code_of_its_own(
    oel: Oel, server: Server, outcome: Outcome, code: int
) -> None:
    server.ends_as = outcome_state(Trigger(id="one", outcome=outcome, detail="for a reason", at=1.0))
    assert oel("trigger", "next-round", "--wait")[:2] == (
        code,
        f"quickstart: {SHOWN[outcome].state}  run-0\n{outcome}: for a reason\n",
    )
    assert oel("trigger", "next-round")[0] == 0


def test_no_two_outcomes_look_alike() -> None:
    assert set(SHOWN) | {"begun"} == set(get_args(Outcome))
    assert len({shown.state for shown in SHOWN.values()}) == len({s.exit_code for s in SHOWN.values()}) == len(SHOWN)
    kinds = [SHOWN[outcome].kind for outcome in ("promoted", "refused", "failed")]
    assert len(set(kinds)) == 3, "the type is the colour"
    assert SHOWN["waiting"].kind != SHOWN["promoted"].kind
    assert 2 not in {shown.exit_code for shown in SHOWN.values()}, "that is wrong usage"


@pytest.mark.parametrize(
    ("kind", "code"),
    [(StateType.COMPLETED, 0), (StateType.CRASHED, 1), (StateType.CANCELLED, 1), (StateType.FAILED, 1)],
)
def test_a_flow_run_that_says_no_outcome_is_done_or_failed(
    oel: Oel, server: Server, kind: StateType, code: int
) -> None:
    server.ends_as = State(type=kind)
    assert oel("trigger", "collect-only", "--wait")[0] == code


@pytest.mark.parametrize(
    ("outcome", "again"),
    [("promoted", False), ("refused", False), ("waiting", False), ("undecided", True), ("failed", True)],
)
def test_the_same_id_goes_on_where_there_is_something_to_go_on_with(
    oel: Oel, server: Server, outcome: Outcome, again: bool
) -> None:
    server.ends_as = outcome_state(Trigger(id="one", outcome=outcome, at=1.0))
    first, second = (json.loads(oel("trigger", "next-round", "--id", "one", "--json")[1]) for _ in range(2))
    assert (first["flow_run"] != second["flow_run"]) is again


def test_what_the_server_refuses_is_said(oel: Oel) -> None:
    code, _, said = oel("trigger", "next-round", "--set", "when_busy=sometimes")
    assert (code, "'sometimes' is not one of" in said, "Traceback" in said) == (2, True, False)


def test_every_project_has_a_schedule_of_its_own(oel: Oel) -> None:
    oel("schedule", "next-round", "--cron", "0 3 * * *", "--set", "project=lake")
    oel("schedule", "next-round", "--cron", "0 4 * * *", "--set", "project=pond")
    _, out, _ = oel("schedule", "next-round", "--cron", "0 5 * * *", "--set", "project=lake")
    schedules = [line for line in out.splitlines() if not line.startswith("  next: ")]
    assert [line.split()[2] for line in sorted(schedules)] == ["4", "5"]
    assert len(out.splitlines()) == 2 * len(schedules), "each with its next times"
    _, out, _ = oel("schedule", "next-round", "--off", "--set", "project=lake")
    assert "0 4" in out
    assert "0 5" not in out
    assert oel("schedule", "next-round", "--off")[1] == "next-round: no schedule\n"


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_server_that_is_away_is_said(oel: Oel, monkeypatch: pytest.MonkeyPatch, wrapped: bool) -> None:
    """Prefect itself wraps it where it asks for the server's version first."""

    def refused(**options: object) -> None:
        away = httpx.ConnectError("refused")
        if wrapped:
            raise RuntimeError("Failed to reach API") from away
        raise away

    monkeypatch.setattr("prefect.client.orchestration.get_client", refused)
    code, _, said = oel("trigger", "next-round")
    assert (code, "does not answer" in said, "Traceback" in said) == (1, True, False)


def test_schedules_are_shown_with_their_next_times_in_their_own_zone(capfd: pytest.CaptureFixture[str]) -> None:
    nightly = DeploymentSchedule(
        schedule=CronSchedule(cron="0 3 * * *", timezone="Europe/Berlin"), active=True, parameters={"project": "lake"}
    )
    paused = nightly.model_copy(update={"active": False})
    summer = datetime(2026, 10, 23, 12, tzinfo=UTC)
    assert [time.isoformat() for time in next_times(nightly, summer)] == [
        "2026-10-24T03:00:00+02:00",
        "2026-10-25T03:00:00+01:00",
        "2026-10-26T03:00:00+01:00",
    ]
    assert next_times(paused, summer) == []
    found: Any = SimpleNamespace(name="next-round", schedules=[nightly, paused])
    show_schedules(found, as_json=True)
    rows = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [(row["cron"], row["active"], len(row["next"])) for row in rows] == [
        ("0 3 * * *", True, 3),
        ("0 3 * * *", False, 0),
    ]
    show_schedules(found, as_json=False)
    assert "  next: " in capfd.readouterr().out
