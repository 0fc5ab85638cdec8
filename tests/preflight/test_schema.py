"""The JSON Schema of presets accepts and rejects what the configuration does."""

from typing import Any

import jsonschema
import pytest

from oel_core import envs
from oel_core.config.run import PRESETS, OelConfig, load_config, preset_names
from oel_core.config.yaml_text import parse_yaml
from oel_core.errors import ConfigError
from oel_core.preflight.schema import preset_schema


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = preset_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("name", preset_names())
def test_every_shipped_preset_is_valid(validator: Any, name: str) -> None:
    values = parse_yaml((PRESETS / f"{name}.yaml").read_text(encoding="utf-8"), name).mapping()
    assert [error.message for error in validator.iter_errors(values)] == []
    assert [error.message for error in validator.iter_errors(load_config(name).model_dump(mode="json"))] == []


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"rouns": 3}, ()),
        ({"rounds": 0}, ("rounds",)),
        ({"distill": {"steps": "many"}}, ("distill", "steps")),
        ({"environment": {"name": "frozn_lake"}}, ("environment", "name")),
        ({"environment": {"name": "lake", "options": {"sise": 3}}}, ("environment", "options")),
        ({"environment": {"name": "sokoban", "options": {"boxes": 9}}}, ("environment", "options", "boxes")),
        ({"extract": {"format": "no such"}}, ("extract", "format")),
    ],
)
def test_what_the_configuration_refuses_is_marked_at_its_place(
    validator: Any, values: dict[str, Any], place: tuple[str, ...]
) -> None:
    (error,) = validator.iter_errors(values)
    assert tuple(error.absolute_path) == place


def test_components_of_elsewhere_are_taken(validator: Any) -> None:
    values = {"environment": {"name": "my_worlds.doors:Doors", "options": {"anything": 1}}}
    assert list(validator.iter_errors(values)) == []


def test_every_setting_that_has_a_docstring_is_described() -> None:
    properties = preset_schema()["$defs"]["EnvironmentConfig"]["properties"]
    assert properties["max_turns"]["description"] == "Turns after which an episode is truncated."
    assert OelConfig.model_fields["seed"].description is not None


def test_the_environments_name_is_checked_when_it_is_used() -> None:
    assert load_config("tiny", ["environment.name=gone"]).environment.name == "gone"
    with pytest.raises(ConfigError, match="unknown environment 'gone'"):
        envs.check_spec(envs.EnvSpec("gone"))
