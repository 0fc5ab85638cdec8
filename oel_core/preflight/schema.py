"""A JSON Schema of presets, so that editors complete and check them (https://json-schema.org/draft/2020-12)."""

from typing import Any

from pydantic import BaseModel

from oel_core import envs
from oel_core.config.run import EnvironmentConfig, OelConfig
from oel_core.errors import OelError

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def preset_schema() -> dict[str, Any]:
    """The schema of a preset, with the options of every installed environment.

    What several settings say together (like `use_after` and `extraction_episodes`) is not in it: `oel config show`
    checks that.
    """
    schema = OelConfig.model_json_schema()
    environment = schema["$defs"][EnvironmentConfig.__name__]
    environment["allOf"] = [_options_of(name, model) for name, model in _option_models().items()]
    return {"$schema": DIALECT, **schema, "title": "oel preset"}


def _option_models() -> dict[str, type[BaseModel]]:
    """Environment → the model of its options; those that cannot be imported here are left out."""
    found = {}
    for name in envs.env_names():
        try:
            model = envs.options_model(name)
        except OelError:
            continue
        if model is not None:
            found[name] = model
    return found


def _options_of(name: str, model: type[BaseModel]) -> dict[str, Any]:
    """A conditional schema: with this environment name the options have this schema."""
    options = {"$id": f"oel:environment/{name}", **model.model_json_schema()}
    return {
        "if": {"properties": {"name": {"const": name}}, "required": ["name"]},
        "then": {"properties": {"options": options}},
    }
