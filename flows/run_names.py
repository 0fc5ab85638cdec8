"""Descriptive names of flow runs of deployments, set at their creation instead of Prefect's random ones."""

from collections.abc import Mapping
from typing import Any

TEMPLATES: Mapping[str, str] = {
    "learning-loop": "{name}",
    "next-round": "{project}",
    "collect-only": "{project} collect",
    "evaluate-model": "{model} {suite}",
}
"""Deployment → name, in terms of its parameters."""


def run_name(deployment: str, schema: Mapping[str, Any], parameters: Mapping[str, Any]) -> str | None:
    """The name of a flow run with these parameters; None (a random name) for a foreign deployment.

    Args:
        deployment: its name.
        schema: its parameter schema with defaults, in Prefect's format.
        parameters: of the flow run.
    """
    properties: Mapping[str, Mapping[str, Any]] = schema.get("properties", {})
    values = {name: entry.get("default") for name, entry in properties.items()} | dict(parameters)
    try:
        return TEMPLATES[deployment].format_map(values)
    except KeyError:
        return None
