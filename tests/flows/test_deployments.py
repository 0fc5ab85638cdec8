"""What is deployed: every entry of the Prefect file has a flow, and its form says what each field means."""

from types import SimpleNamespace
from typing import Any

import pytest
import yaml

import flows.deployed
from flows.commands.deployments import parameters_of
from flows.services.client import PREFECT_FILE
from oel_core.config import preset_names
from oel_core.errors import ConfigError

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


def test_choices_are_enums() -> None:
    assert form("next-round")["definitions"]["WhenBusy"]["enum"] == ["refuse", "queue"]
    assert "games" in form("evaluate-model")["definitions"]["Suite"]["enum"]


def test_settings_are_parameters_or_overrides() -> None:
    found = parameters_of(
        deployment("next-round"), ["project=lake", "gate.margin=0.02", "overrides=[seed=3]", "distill.steps=5"]
    )
    assert found == {"project": "lake", "overrides": ["seed=3", "gate.margin=0.02", "distill.steps=5"]}
    assert parameters_of(deployment("collect-only"), ["episodes=12"]) == {"episodes": 12}


@pytest.mark.parametrize("wrong", ["nonsense", "projct=lake", "nonsense.field=1", "project: lake", "project=[1"])
def test_what_is_neither_is_refused(wrong: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        parameters_of(deployment("next-round"), [wrong])
