"""Validation of a suite's options."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

from oel_core.config.fields import validate

Options = TypeVar("Options", bound=BaseModel)


def parse_options(suite: str, model: type[Options], options: Mapping[str, Any]) -> Options:
    """Validated options; ConfigError has every problem and its field."""
    what = f"suite {suite}"
    return validate(model, options, what, lambda place: what)
