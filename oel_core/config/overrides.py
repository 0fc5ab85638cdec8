"""`section.field=value`: settings from a command line, parsed by the field's declared type."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from oel_core.config.fields import alternatives, shown, type_at
from oel_core.config.yaml_text import NULL, Place, parse_yaml
from oel_core.errors import ConfigError


@dataclass(frozen=True)
class Override:
    """One setting that overrides the preset's."""

    place: tuple[str, ...]
    value: Any
    source: str
    """Name in messages."""

    def about(self, place: Place) -> bool:
        """Whether it sets the value at `place`, or something that contains it or is inside it."""
        common = min(len(place), len(self.place))
        return place[:common] == self.place[:common]


def parse_override(model: type[BaseModel], text: str, option: str = "--set") -> Override:
    """A value for a text field is taken literally, with or without quotes; others are YAML.

    `option` is the command line's, for messages.

    Raises:
        ConfigError: not of the form `section.field=value`, not UTF-8, or a value that is not YAML.
    """
    path, separator, raw = text.partition("=")
    place = tuple(path.strip().split("."))
    source = f"{option} {shown(text)}"
    if not separator or not all(place):
        raise ConfigError(f"{source}: write it as section.field=value, like distill.learning_rate=1e-4")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ConfigError(f"{source}: not UTF-8: type it in a terminal that uses UTF-8")
    return Override(place, _value(type_at(model, place), raw.strip(), source), source)


def apply_overrides(values: dict[str, Any], overrides: Sequence[Override]) -> None:
    """Applies the overrides in order, and creates sections that are missing or null.

    Raises:
        ConfigError: a path continues inside a value that is not a section.
    """
    for override in overrides:
        target = values
        for key in override.place[:-1]:
            if target.get(key) is None:
                target[key] = {}
            target = target[key]
            if not isinstance(target, dict):
                raise ConfigError(f"{override.source}: {shown(str(key))} is a value, not a section")
        target[override.place[-1]] = override.value


def _value(kind: Any, text: str, source: str) -> Any:
    kinds = [one for one in alternatives(kind) if one is not NoneType]
    if kinds and all(_is_text(one) for one in kinds):
        is_null = text in NULL and NoneType in alternatives(kind)
        return None if is_null else _unquoted(text)
    return parse_yaml(text, source).values


def _is_text(kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return all(isinstance(value, str) for value in get_args(kind))
    return isinstance(kind, type) and issubclass(kind, str) and (kind is str or issubclass(kind, Enum))


def _unquoted(text: str) -> str:
    if text[:1] not in ("'", '"'):
        return text
    try:
        value = parse_yaml(text, "").values
    except ConfigError:
        return text
    return value if isinstance(value, str) else text
