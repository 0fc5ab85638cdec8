"""Names of the flow runs of deployments, given when they are made. Prefect's own names are random."""

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
    """The name of a flow run with these parameters; None, for a random one, of a deployment that is not ours.

    Args:
        deployment: its name.
        schema: its parameters with their defaults, as Prefect describes them.
        parameters: what the run is given.
    """
    properties: Mapping[str, Mapping[str, Any]] = schema.get("properties", {})
    values = {name: entry.get("default") for name, entry in properties.items()} | dict(parameters)
    try:
        return TEMPLATES[deployment].format_map(values)
    except KeyError:
        return None
