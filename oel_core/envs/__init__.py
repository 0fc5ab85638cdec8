"""Environments by name; `oel_core.plugins.builtin` lists the built-in ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel

from oel_core.config.run import ExtractionExample, OelConfig
from oel_core.envs.base import Environment, EnvSpec, Step
from oel_core.envs.options import OptionInfo, option_infos
from oel_core.errors import ConfigError, EnvironmentError_
from oel_core.plugins.builtin import ENVIRONMENTS
from oel_core.prompts.extraction import get_format
from oel_core.prompts.extraction.base import ANY_LINE

__all__ = [
    "REGISTRY",
    "EnvInfo",
    "EnvSpec",
    "Environment",
    "Step",
    "answer_shape",
    "check_spec",
    "describe_env",
    "describe_envs",
    "env_names",
    "extraction_examples",
    "extraction_task",
    "make_env",
    "options_model",
    "playable",
    "prepare_envs",
    "slow_to_create",
]

REGISTRY: Final = ENVIRONMENTS.builtin
"""Name → "module:Class" of the built-in ones. A class is called with `(spec, seed)` and may have an `Options` model."""


@dataclass(frozen=True)
class EnvInfo:
    """One environment in a listing."""

    name: str
    summary: str
    options: tuple[OptionInfo, ...]


def env_names() -> list[str]:
    """Built-in names, then those of installed packages."""
    return ENVIRONMENTS.names()


def make_env(spec: EnvSpec, seed: int) -> Environment:
    """Creates a single-use environment.

    Raises:
        ConfigError: the name is not registered (the message lists the nearest), or an option is wrong.
        EnvironmentError_: the environment could not be created, or could not hide its rules.
    """
    environment: Environment = _load(spec.name)(spec, seed)
    return environment


def check_spec(spec: EnvSpec) -> None:
    """Validates a spec without creating an environment. Raises ConfigError."""
    from oel_core.envs.options import parse_options

    _own_task(spec.name)
    options = options_model(spec.name)
    if options is not None:
        parse_options(options, spec)
    getattr(_load(spec.name), "check", lambda spec: None)(spec)


def playable(name: str) -> bool:
    """Whether episodes can be played: recorded conversations can only be read. ConfigError for an unknown name."""
    return bool(getattr(_load(name), "playable", True))


def extraction_task(config: OelConfig) -> str:
    """The extractor's task for the run's environment. Raises ConfigError if the environment has none."""
    return config.extract.task or _own_task(config.environment.name)


def extraction_examples(config: OelConfig) -> tuple[ExtractionExample, ...]:
    """The extractor's demonstrations: the configuration's examples, else the environment's."""
    if config.extract.examples is not None:
        return config.extract.examples
    return tuple(getattr(_load(config.environment.name), "extraction_examples", ()))


def answer_shape(config: OelConfig) -> str | None:
    """The regular expression that constrains the extractor's answers; None if there is none.

    Raises:
        ConfigError: the format's answers have no shape.
    """
    if config.extract.constrained == "off":
        return None
    form = get_format(config.extract.format)
    if form.shape is None:
        raise ConfigError(
            f"extract.constrained is shape, but answers in the format {form.name} have none: set it to off, or "
            "extract.format to itemised"
        )
    own = ANY_LINE if config.extract.task else getattr(_load(config.environment.name), "item_shape", ANY_LINE)
    return form.shape(config.extract.item_shape or own)


def prepare_envs(spec: EnvSpec, seeds: Sequence[int], workers: int = 1) -> None:
    """Generates an environment's games ahead of play, if that is slow (TextWorld generates and compiles)."""
    if slow_to_create(spec):
        _load(spec.name).prepare(spec, seeds, workers)


def slow_to_create(spec: EnvSpec) -> bool:
    """Whether an environment's games can be generated ahead of play. Raises ConfigError for an unknown name."""
    return hasattr(_load(spec.name), "prepare")


def options_model(name: str) -> type[BaseModel] | None:
    """The model of an environment's options, or None. Raises ConfigError for an unknown name."""
    model: type[BaseModel] | None = getattr(_load(name), "Options", None)
    return model


def describe_env(name: str) -> EnvInfo:
    """Summary and options of one environment. Raises ConfigError for an unknown name."""
    summary = (_load(name).__doc__ or "").strip().split("\n", 1)[0]
    options = options_model(name)
    return EnvInfo(name, summary, tuple(option_infos(options)) if options is not None else ())


def describe_envs() -> list[EnvInfo]:
    """Summary and options of every named environment."""
    return [describe_env(name) for name in env_names()]


def _own_task(name: str) -> str:
    task = getattr(_load(name), "extraction_task", None)
    if not isinstance(task, str) or not task.strip():
        raise ConfigError(f"environment '{name}': its class has no text extraction_task, which the extractor needs")
    return task


def _load(name: str) -> Any:
    try:
        return ENVIRONMENTS.load(name)
    except ImportError as error:
        raise EnvironmentError_(f"environment '{name}' needs a package that cannot be imported: {error}") from error
