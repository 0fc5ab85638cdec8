"""Options of an environment: a frozen model each, so that all wrong options are reported before an environment is
created."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel

from oel_core.config.fields import validate
from oel_core.config.section import Section
from oel_core.envs.base import EnvSpec


class EnvOptions(Section):
    """Base of all environments' options; the docstrings are shown by `oel envs`."""


OptionsT = TypeVar("OptionsT", bound=BaseModel)


@dataclass(frozen=True)
class OptionInfo:
    """One option in a listing."""

    name: str
    type: str
    default: Any
    help: str


def parse_options(model: type[OptionsT], spec: EnvSpec) -> OptionsT:
    """The options of `spec` as `model`.

    Raises:
        ConfigError: one or more options are unknown or out of range; the message names each of them.
    """
    what = f"environment '{spec.name}'"
    return validate(model, spec.options, what, lambda place: what)


def option_infos(model: type[BaseModel]) -> Iterator[OptionInfo]:
    """All options of a model in the order of their definition."""
    for name, field in model.model_fields.items():
        annotation = field.annotation
        shown = annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        yield OptionInfo(name, shown, default, field.description or "")
