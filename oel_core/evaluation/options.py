"""Reading the options of a suite."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from oel_core.errors import ConfigError

Options = TypeVar("Options", bound=BaseModel)


def parse_options(suite: str, model: type[Options], options: Mapping[str, Any]) -> Options:
    """Validated options, or ConfigError with every problem and its field."""
    try:
        return model.model_validate(dict(options))
    except ValidationError as error:
        problems = [f"  {'.'.join(map(str, found['loc'])) or '(whole)'}: {found['msg']}" for found in error.errors()]
        raise ConfigError(
            f"options of suite {suite} have {len(problems)} problem(s):\n" + "\n".join(problems)
        ) from error
