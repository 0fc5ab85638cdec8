"""Options of an environment: a small frozen model each, so that every wrong one is named before anything is made."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from oel_core.envs.base import EnvSpec
from oel_core.errors import ConfigError


class EnvOptions(BaseModel):
    """Base of every environment's options: frozen, unknown names refused, no silent conversion of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


OptionsT = TypeVar("OptionsT", bound=BaseModel)


@dataclass(frozen=True)
class OptionInfo:
    """One option as a listing shows it."""

    name: str
    type: str
    default: Any
    help: str


def parse_options(model: type[OptionsT], spec: EnvSpec) -> OptionsT:
    """The options of `spec` as `model`.

    Raises:
        ConfigError: one or more options are unknown or out of range; the message names each of them.
    """
    try:
        return model.model_validate(dict(spec.options))
    except ValidationError as error:
        problems = [_problem(entry) for entry in error.errors()]
        known = ", ".join(model.model_fields)
        raise ConfigError(
            f"environment '{spec.name}' has {len(problems)} bad option(s), known are {known}:\n" + "\n".join(problems)
        ) from error


def option_infos(model: type[BaseModel]) -> Iterator[OptionInfo]:
    """Every option of a model, in the order it was written."""
    for name, field in model.model_fields.items():
        annotation = field.annotation
        shown = annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")
        yield OptionInfo(name, shown, field.get_default(call_default_factory=True), field.description or "")


def _problem(entry: Any) -> str:
    where = ".".join(str(part) for part in entry["loc"]) or "(together)"
    got = f" (got {entry['input']!r})" if entry["loc"] else ""
    return f"  {where}: {entry['msg']}{got}"
