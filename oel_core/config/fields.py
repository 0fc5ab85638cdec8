"""Validates settings against their declared types; errors name the field and where its value was written."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import AliasChoices, BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, to_json

from oel_core.config.urls import without_secrets
from oel_core.config.yaml_text import Place
from oel_core.errors import ConfigError
from oel_core.text.nearest import nearest
from oel_core.text.visible import visible

SHOWN = 80
"""Maximum characters of an invalid value in a message."""

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Problem:
    """One validation problem."""

    place: Place
    """Path of the value; () if several values are inconsistent."""
    text: str

    def __str__(self) -> str:
        return f"{dotted(self.place)}: {self.text}" if self.place else self.text


def validate(model: type[M], values: Mapping[str, Any], what: str, where: Callable[[Place], str]) -> M:
    """The values as `model`, strictly typed.

    Args:
        what: name of the settings, for messages about several problems.
        where: path → where the value was written; precedes its problem.

    Raises:
        ConfigError: all problems, each with its location and field.
    """
    try:
        return _validated(model, values)
    except ValidationError as error:
        lines = [f"{where(problem.place)}: {problem}" for problem in problems(model, error)]
        if len(lines) == 1:
            raise ConfigError(lines[0]) from error
        raise ConfigError(f"{what} has {len(lines)} problem(s):\n  " + "\n  ".join(lines)) from error


def check(model: type[BaseModel], values: Mapping[str, Any]) -> list[Problem]:
    """All validation problems of the values."""
    try:
        _validated(model, values)
    except ValidationError as error:
        return problems(model, error)
    return []


def _validated(model: type[M], values: Mapping[str, Any]) -> M:
    """Validates JSON, because pydantic's strict mode for JSON accepts a list for a tuple and a string for an enum."""
    return model.model_validate_json(to_json(values, inf_nan_mode="constants"))


def problems(model: type[BaseModel], error: ValidationError) -> list[Problem]:
    """pydantic's errors, one per path: the members of a union give one problem together."""
    found: dict[Place, list[str]] = {}
    for entry in error.errors():
        place = _place(model, entry["loc"])
        found.setdefault(place, []).append(_text(model, place, entry))
    return [Problem(place, "; or: ".join(dict.fromkeys(texts))) for place, texts in found.items()]


def shown(text: str) -> str:
    """User text for messages: shortened, without secrets and control characters."""
    clean = visible(without_secrets(text))
    return clean if len(clean) <= SHOWN else f"{clean[: SHOWN - 3]}..."


def dotted(place: Place) -> str:
    """A path in the form of the command line."""
    return ".".join(shown(str(key)) for key in place)


def type_at(model: type[BaseModel], place: Place) -> Any:
    """The declared type at a path; None if the model does not declare one."""
    kind: Any = model
    for key in place:
        kind = _inside(kind, key)
    return kind


def alternatives(kind: Any) -> tuple[Any, ...]:
    """The members of a union, or the type itself, without annotations."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in (Union, UnionType):
        return tuple(one for member in get_args(kind) for one in alternatives(member))
    return () if kind is None else (kind,)


def _inside(kind: Any, key: str | int) -> Any:
    for one in alternatives(kind):
        if isinstance(one, type) and issubclass(one, BaseModel) and key in one.model_fields:
            return one.model_fields[str(key)].annotation
        arguments = get_args(one)
        if get_origin(one) is dict and isinstance(key, str):
            return arguments[1]
        if get_origin(one) in (tuple, list) and isinstance(key, int):
            return arguments[min(key, len(arguments) - 1)] if arguments[-1] is not Ellipsis else arguments[0]
    return None


def _place(model: type[BaseModel], location: Sequence[str | int]) -> Place:
    """pydantic's location without the inserted names of union members."""
    place: list[str | int] = []
    kind: Any = model
    named = False
    for key in location:
        is_union = sum(one is not NoneType for one in alternatives(kind)) > 1
        if key == "[key]" or (is_union and not named):
            named = True
            continue
        place.append(key)
        kind, named = _inside(kind, key), False
    return tuple(place)


def _text(model: type[BaseModel], place: Place, entry: ErrorDetails) -> str:
    if entry["type"] == "value_error":
        return str(entry["ctx"]["error"])
    if entry["type"] == "missing":
        return "is missing"
    if entry["type"] == "extra_forbidden":
        known = _names(type_at(model, place[:-1]))
        return f"no such setting: {nearest(str(place[-1]), known)}known are {', '.join(known)}"
    value = entry["input"]
    got = f"'{shown(value)}'" if isinstance(value, str) else shown(json.dumps(value, default=str))
    is_plain = isinstance(value, str | int | float | bool | None)
    hint = ": put it in quotes" if entry["type"] == "string_type" and is_plain and value is not None else ""
    or_null = " or null" if NoneType in alternatives(type_at(model, place)) else ""
    return f"{entry['msg'].removeprefix('Input ')}{or_null}{hint}" + (f" (got {got})" if is_plain else "")


def _names(kind: Any) -> list[str]:
    models = [one for one in alternatives(kind) if isinstance(one, type) and issubclass(one, BaseModel)]
    fields = [(name, info) for one in models for name, info in one.model_fields.items()]
    return list(dict.fromkeys(known for name, info in fields for known in (name, *_aliases(info))))


def _aliases(info: FieldInfo) -> list[str]:
    """Alternative names of a field."""
    choices = info.validation_alias.choices if isinstance(info.validation_alias, AliasChoices) else []
    return [name for name in choices if isinstance(name, str)]
