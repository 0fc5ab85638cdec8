"""Base types of the configuration's sections. The sections are in `oel_core.config.run`."""

import math
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

MAX_COUNT = 2**31 - 1
"""Largest count; counts must fit 32-bit signed integers."""

Count = Annotated[int, Field(ge=1, le=MAX_COUNT)]
CountOrZero = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Share = Annotated[float, Field(gt=0, le=1)]
Text = Annotated[str, Field(pattern=r"\S")]
"""Non-blank text."""


class Section(BaseModel):
    """Base of every section: frozen, unknown fields rejected, strict types, finite numbers only.

    A field's docstring is its description in the JSON Schema and in listings.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is not a finite number")
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    for entry in inside:
        _finite(entry)
    return value


def _label(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:-]*", text) is None:
        raise ValueError("use letters, digits, dot, colon, dash and underscore, first a letter or digit")
    return text


Label = Annotated[str, AfterValidator(_label)]
"""A user-defined name, used in folder and metric names."""


def _regex(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"it is no regular expression: {error}") from error
    return text


Regex = Annotated[Text, AfterValidator(_regex)]
"""A valid regular expression that is not empty."""

Options = Annotated[dict[str, Any], AfterValidator(_finite)]
"""Options of an environment or suite; its own model validates them."""
