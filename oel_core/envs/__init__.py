"""The registry of environments. A new one is one module here and one line in `REGISTRY`."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any, Final

from oel_core.envs.base import Environment, EnvSpec, Step
from oel_core.envs.options import OptionInfo, option_infos
from oel_core.errors import ConfigError, EnvironmentError_

__all__ = [
    "REGISTRY",
    "EnvInfo",
    "EnvSpec",
    "Environment",
    "Step",
    "check_spec",
    "describe_env",
    "describe_envs",
    "env_names",
    "make_env",
    "prepare_envs",
]

REGISTRY: Final[dict[str, str]] = {
    "lake": "oel_core.envs.lake:LakeEnv",
    "frozen_lake": "oel_core.envs.textarena:FrozenLake",
    "sokoban": "oel_core.envs.textarena:Sokoban",
    "textworld_coin": "oel_core.envs.textworld.games:CoinCollector",
    "textworld_treasure": "oel_core.envs.textworld.games:TreasureHunter",
    "textworld_cooking": "oel_core.envs.textworld.games:Cooking",
    "textworld_custom": "oel_core.envs.textworld.games:CustomGame",
    "textworld_relics": "oel_core.envs.textworld.relics_game:Relics",
}
"""Name → "module:Class", imported on first use. A class is called with `(spec, seed)` and has an `Options` model."""


@dataclass(frozen=True)
class EnvInfo:
    """One environment as a listing shows it."""

    name: str
    summary: str
    options: tuple[OptionInfo, ...]


def env_names() -> list[str]:
    """Registered names, in the order of the registry."""
    return list(REGISTRY)


def make_env(spec: EnvSpec, seed: int) -> Environment:
    """One single-use environment.

    Raises:
        ConfigError: the name is not registered (the message lists the nearest), or an option is wrong.
        EnvironmentError_: the environment could not be made, or could not hide its rules.
    """
    environment: Environment = _load(spec.name)(spec, seed)
    return environment


def check_spec(spec: EnvSpec) -> None:
    """Refuses a spec that no episode could be made of, without making one. Raises ConfigError."""
    from oel_core.envs.options import parse_options

    options = getattr(_load(spec.name), "Options", None)
    if options is not None:
        parse_options(options, spec)


def prepare_envs(spec: EnvSpec, seeds: Sequence[int], workers: int = 1) -> None:
    """Does an environment's slow making ahead of play, where it has any (TextWorld generates and compiles)."""
    prepare = getattr(_load(spec.name), "prepare", None)
    if prepare is not None:
        prepare(spec, seeds, workers)


def describe_env(name: str) -> EnvInfo:
    """Summary and options of one environment. Raises ConfigError for an unknown name."""
    cls = _load(name)
    summary = (cls.__doc__ or "").strip().split("\n", 1)[0]
    options = getattr(cls, "Options", None)
    return EnvInfo(name, summary, tuple(option_infos(options)) if options is not None else ())


def describe_envs() -> list[EnvInfo]:
    """Summary and options of every registered environment, for a command line's listing."""
    return [describe_env(name) for name in REGISTRY]


def _load(name: str) -> Any:
    if name not in REGISTRY:
        near = get_close_matches(name, REGISTRY, n=3, cutoff=0.4)
        hint = f"did you mean {', '.join(near)}? " if near else ""
        raise ConfigError(f"unknown environment '{name}': {hint}registered are {', '.join(REGISTRY)}")
    module, _, cls = REGISTRY[name].partition(":")
    try:
        return getattr(import_module(module), cls)
    except ImportError as error:
        raise EnvironmentError_(f"environment '{name}' needs a package that cannot be imported: {error}") from error
