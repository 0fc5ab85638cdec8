"""A registry: the names of one kind of component and the location of each one's code. Imports nothing until it is used.

A component has a built-in name, a name that an installed package declares under the registry's entry-point group
(https://packaging.python.org/specifications/entry-points/), or the form `module:attribute`.
"""

import hashlib
import re
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from oel_core.errors import ConfigError
from oel_core.text.nearest import nearest

LOCATION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
"""`module:attribute`, both possibly dotted."""


@dataclass(frozen=True)
class Registry:
    """All components of one kind."""

    noun: str
    """Name of the kind in messages, like `environment`."""
    group: str
    """Entry-point group in which installed packages declare components."""
    builtin: dict[str, str] = field(default_factory=dict)
    """Name → `module:attribute` of the built-in ones."""

    def names(self) -> list[str]:
        """Built-in names in their order, then installed ones, sorted."""
        return [*self.builtin, *sorted(set(_installed(self.group)) - set(self.builtin))]

    def check(self, name: str) -> str:
        """Returns the name if it is valid; imports nothing.

        Raises:
            ConfigError: it is neither known nor of the form `module:attribute`; the message lists the nearest names.
        """
        self.location(name)
        return name

    def location(self, name: str) -> str:
        """`module:attribute` of a component.

        Raises:
            ConfigError: as `check`, or the name is declared by two installed packages, or by one and built in.
        """
        declared = _installed(self.group).get(name, ())
        if name in self.builtin and not declared:
            return self.builtin[name]
        if len(declared) == 1 and name not in self.builtin:
            return declared[0].value
        if declared:
            owners = [*(["oel"] if name in self.builtin else []), *(_package(entry) for entry in declared)]
            raise ConfigError(f"the {self.noun} '{name}' is declared by {' and '.join(owners)}: remove one of them")
        if LOCATION.fullmatch(name):
            return name
        known = self.names()
        raise ConfigError(
            f"unknown {self.noun} '{name}': {nearest(name, known)}registered are {', '.join(known)}, "
            f"names that packages declare under the entry-point group {self.group}, and module:attribute"
        )

    def load(self, name: str) -> Any:
        """Imports the component.

        Raises:
            ConfigError: as `location`, or the module has no such attribute or does not exist.
            ImportError: the module needs a package that is not installed.
        """
        module, _, attribute = self.location(name).partition(":")
        try:
            found: Any = import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not (module + ".").startswith(error.name + "."):
                raise
            raise ConfigError(f"{self.noun} '{name}': there is no module {error.name}") from error
        for part in attribute.split("."):
            if not hasattr(found, part):
                raise ConfigError(f"{self.noun} '{name}': {module} has no attribute {attribute}")
            found = getattr(found, part)
        return found

    def identity(self, name: str) -> str | None:
        """Identifies the version of a component that is not built in; None for built-in ones.

        The package and its version for an installed one, the digest of the module's source for `module:attribute`.
        """
        if name in self.builtin:
            return None
        declared = _installed(self.group).get(name)
        if declared:
            return _package(declared[0])
        location = self.location(name)
        return f"{location} {_source_digest(location.partition(':')[0])}"


@cache
def _installed(group: str) -> dict[str, tuple[EntryPoint, ...]]:
    """Name → its declarations. A package that is on the path twice counts once."""
    found: dict[str, dict[str, EntryPoint]] = {}
    for entry in entry_points(group=group):
        found.setdefault(entry.name, {})[_package(entry)] = entry
    return {name: tuple(entries.values()) for name, entries in found.items()}


def _package(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else entry.value


def _source_digest(module: str) -> str:
    try:
        spec = find_spec(module)
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        return "without source"
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()[:16]
