"""Reads deployments/containers/compose.yaml as Compose does: merged, with the variables of an environment file."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent.parent
CONTAINERS = ROOT / "deployments" / "containers"
COMPOSE = CONTAINERS / "compose.yaml"
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


@dataclass(frozen=True)
class Composed:
    """One service."""

    name: str
    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    ports: tuple[str, ...]
    health: tuple[str, ...]
    given: Mapping[str, Any]
    """All of it."""


def env_names(path: Path) -> list[str]:
    """The names that an environment file sets."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return [line.partition("=")[0] for line in lines]


def image_environment() -> dict[str, str]:
    """What the Dockerfile's last stage sets."""
    joined = (CONTAINERS / "Dockerfile").read_text().replace("\\\n", " ")
    last = re.findall(r"^ENV\s+(.*)$", joined, re.MULTILINE)[-1]
    return dict(word.split("=", 1) for word in last.split())


def interpolated(text: str, variables: Mapping[str, str]) -> str:
    """`${NAME}`, `${NAME:-default}` and `${NAME:?why}` replaced; a KeyError for a missing one."""

    def value(found: re.Match[str]) -> str:
        name, kind, rest = found.groups()
        return variables.get(name) or (rest if kind == "-" else variables[name])

    return VARIABLE.sub(value, text)


def composed(variables: Mapping[str, str]) -> dict[str, Composed]:
    """All services by name."""
    found = yaml.safe_load(interpolated(COMPOSE.read_text(), variables))
    return {name: _service(name, given) for name, given in found["services"].items()}


def _service(name: str, given: Mapping[str, Any]) -> Composed:
    return Composed(
        name=name,
        image=given["image"],
        command=tuple(given.get("command", ())),
        environment=given.get("environment", {}),
        ports=tuple(given.get("ports", ())),
        health=tuple(given.get("healthcheck", {}).get("test", ())),
        given=given,
    )
