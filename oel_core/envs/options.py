"""Options of an environment: a small frozen model each, so that every wrong one is named before anything is made."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel

from oel_core.config.fields import validate
from oel_core.config.section import Section
from oel_core.envs.base import EnvSpec


class EnvOptions(Section):
    """Base of every environment's options; their docstrings are what `oel envs` says about them."""


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
    what = f"environment '{spec.name}'"
    return validate(model, spec.options, what, lambda place: what)


def option_infos(model: type[BaseModel]) -> Iterator[OptionInfo]:
    """Every option of a model, in the order it was written."""
    for name, field in model.model_fields.items():
        annotation = field.annotation
        shown = annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        yield OptionInfo(name, shown, default, field.description or "")
