"""The environment protocol. An environment is single-use: created for one seed, played once, closed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, runtime_checkable

from oel_core.config.run import OelConfig
from oel_core.types import Tool, ToolCall

HIDDEN_RULES: Final = (
    "You act in a world whose rules nobody has told you. Look at what you see, think briefly, "
    "and end your answer with one action in square brackets."
)
"""Instructions of environments with hidden rules whose actions are words in square brackets."""
LEARN_RULES: Final = (
    "You study one finished episode of a world whose rules nobody has told you. Work out from what happened what is "
    "worth knowing in other episodes: what things do, what to aim for, what to avoid."
)
"""Extraction task of such environments."""


@dataclass(frozen=True)
class EnvSpec:
    """The environment to create, its options, and the turn limit (of the rollout, not of the game)."""

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
    """The environment's response to one action."""

    observation: str
    reward: float
    """Reward of this step alone. An episode is passed if its rewards add up to 1.0."""
    terminated: bool
    """The game has ended by its own rules."""


class Environment(Protocol):
    """One episode of an environment. Deterministic: the same spec, seed and actions give the same bytes.

    A prompt begins with a system message of the instructions and, on a new line, the intro; an empty one is left out.
    If the rules are to be learnt from experience, no text shown to the player may contain them. `HIDDEN_RULES` and
    `LEARN_RULES` are the texts of such environments.
    """

    instructions: str
    """The player's task and the form of an action. The same for every seed."""
    intro: str
    """One line: who the player is and which actions exist, without their meaning."""
    extraction_task: str
    """The extractor's task: what kind of environment this is and what is worth learning about it. A class attribute,
    because no episode is open during extraction. The extraction format defines the form of the output. A
    class whose task asks for items of one form may define that form as a regular expression, `item_shape`
    (`extract.constrained`)."""

    @property
    def layout(self) -> str:
        """A stable key of the hidden initial state, used to split episodes by their actual content."""
        ...

    def start(self) -> str:
        """The first observation."""
        ...

    def parse(self, response: str) -> str | None:
        """The action in a response, or None if there is none (an invalid move)."""
        ...

    def step(self, action: str | None) -> Step:
        """Plays one action. Never raises for None and illegal actions."""
        ...

    def feedback(self, *, truncated: bool) -> str:
        """Final feedback for the extractor: success or failure and the game's reason, or the turn limit."""
        ...

    def close(self) -> None:
        """Releases the episode's resources."""
        ...


@runtime_checkable
class FunctionCalling(Protocol):
    """An environment whose actions can be calls of functions that the model's chat template declares.

    A prompt then has the functions in its system message, an action as the assistant's call in place of the response's
    text, and the observation as its result.
    """

    functions: tuple[Tool, ...]
    """The declared functions, the same for every seed; empty: actions are text."""

    def as_call(self, action: str) -> ToolCall:
        """An action returned by `parse` as a tool call; the id is ignored."""
        ...
