"""The environment protocol. An environment is single-use: made for one seed, played once, closed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from oel_core.config.run import OelConfig

HIDDEN_RULES: Final = (
    "You act in a world whose rules nobody has told you. Look at what you see, think briefly, "
    "and end your answer with one action in square brackets."
)
"""Instructions of a world whose actions are words in square brackets and whose rules are to be found out."""
LEARN_RULES: Final = (
    "You study one finished episode of a world whose rules nobody has told you. Work out from what happened what is "
    "worth knowing in other episodes: what things do, what to aim for, what to avoid."
)
"""Extraction task of such a world."""


@dataclass(frozen=True)
class EnvSpec:
    """Which environment to make, how, and for how many turns at most (the rollout's limit, not the game's)."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    max_turns: int = 5
    instructions: str | None = None
    """Replaces the environment's own instructions."""


def env_spec(config: OelConfig) -> EnvSpec:
    """The environment of a run."""
    environment = config.environment
    return EnvSpec(environment.name, environment.options, environment.max_turns, environment.instructions)


@dataclass(frozen=True)
class Step:
    """The environment's answer to one action."""

    observation: str
    reward: float
    """Of this step alone. An episode is passed if its rewards add to 1.0."""
    terminated: bool
    """The game is over by its own rules."""


class Environment(Protocol):
    """One episode of a world. Given the same spec and seed, it answers the same actions with the same bytes.

    A prompt begins with a system message of the instructions and, on a line of its own, the intro; an empty one is left
    out. In a world whose rules are to be learnt from experience no text shown to the player may contain them.
    `HIDDEN_RULES` and `LEARN_RULES` are the texts of such worlds.
    """

    instructions: str
    """What the player is asked to do and in which form an action is answered. The same for every seed."""
    intro: str
    """One line: who the player is and which actions exist. Never what anything means."""
    extraction_task: str
    """What the extractor is told about this kind of world and what is worth knowing there. An attribute of the class:
    no episode is open when episodes are read. The extraction format says how the answer is written."""

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
