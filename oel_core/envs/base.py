"""The environment protocol. An environment is single-use: made for one seed, played once, closed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from oel_core.config.run import OelConfig


@dataclass(frozen=True)
class EnvSpec:
    """Which environment to make, how, and for how many turns at most (the rollout's limit, not the game's)."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    max_turns: int = 5


def env_spec(config: OelConfig) -> EnvSpec:
    """The environment of a run."""
    environment = config.environment
    return EnvSpec(environment.name, environment.options, environment.max_turns)


@dataclass(frozen=True)
class Step:
    """The environment's answer to one action."""

    observation: str
    reward: float
    """Reward of the episode so far; 1.0 is a pass."""
    terminated: bool
    """The game is over by its own rules."""


class Environment(Protocol):
    """One episode of a world whose rules the player does not know.

    No observation, intro or step may contain rules text. Given the same spec and seed, an environment answers the
    same actions with the same bytes.
    """

    intro: str
    """One line: who the player is and which actions exist. Never what anything means."""

    @property
    def layout(self) -> str:
        """A stable key of the hidden initial layout, to split episodes by what is really different."""
        ...

    def start(self) -> str:
        """The first observation."""
        ...

    def parse(self, response: str) -> str | None:
        """The action that a response asks for, or None when it asks for none (an invalid move)."""
        ...

    def step(self, action: str | None) -> Step:
        """Plays one action. None and illegal actions are answered, never raised."""
        ...

    def feedback(self, *, truncated: bool) -> str:
        """Final feedback for the extractor: success or failure and the game's reason, or the round limit."""
        ...

    def close(self) -> None:
        """Frees what the episode held."""
        ...
