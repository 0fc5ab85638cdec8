"""Environments of Gymnasium (https://gymnasium.farama.org) whose observations and actions are texts."""

import hashlib
import re
from typing import Any, ClassVar

from pydantic import Field

from oel_core.config.section import Options
from oel_core.envs.base import HIDDEN_RULES, LEARN_RULES, EnvSpec, Step
from oel_core.envs.options import EnvOptions, parse_options
from oel_core.errors import ConfigError, EnvironmentError_

NOT_UNDERSTOOD = "That is not an action."
_BRACKETS = re.compile(r"\[([^\[\]\n]*)\]")


class GymnasiumOptions(EnvOptions):
    """Options of the `gymnasium` environment."""

    id: str
    """Id of a registered environment, like `Doors-v0`, or `module:Doors-v0` if that module registers it. Required."""
    kwargs: Options = Field(default_factory=dict)
    """Arguments of the environment."""
    intro: str = Field(default="", pattern=r"^[^\n]*$")
    """One line for the player: who it is and which actions exist."""
    pass_return: float = Field(default=1.0, gt=0)
    """The sum of rewards that is a pass. Rewards are divided by it."""


class GymnasiumEnv:
    """An environment of Gymnasium with text observations and actions. See `oel_core.envs.base.Environment`.

    An action is the last text in square brackets that belongs to the action space. The layout is a digest of the first
    observation. The environment's own truncation (its step limit) ends the episode like its termination.
    """

    Options: ClassVar = GymnasiumOptions
    instructions = HIDDEN_RULES
    extraction_task = LEARN_RULES

    def __init__(self, spec: EnvSpec, seed: int) -> None:
        """Creates and resets the environment.

        Raises:
            ConfigError: gymnasium is not installed, there is no such environment, or its spaces are not texts.
            EnvironmentError_: the environment could not be reset.
        """
        self.options = parse_options(GymnasiumOptions, spec)
        self.intro = self.options.intro
        self._env = _make(self.options)
        try:
            observation, self._info = self._env.reset(seed=seed)
        except Exception as error:
            raise EnvironmentError_(f"{self.options.id} could not be reset with seed {seed}: {error}") from error
        self._first = str(observation)
        self._return, self._ended, self._truncated = 0.0, False, False
        self.layout = hashlib.sha256(self._first.encode(errors="replace")).hexdigest()[:16]

    def start(self) -> str:
        """The first observation."""
        return self._first

    def parse(self, response: str) -> str | None:
        """The last bracketed text of the response that is in the action space."""
        found = (text for text in reversed(_BRACKETS.findall(response)) if self._env.action_space.contains(text))
        return next(found, None)

    def step(self, action: str | None) -> Step:
        """Plays an action; one outside the action space is not passed to the environment."""
        if self._ended:
            return Step("The episode is over.", 0.0, True)
        if action is None or not self._env.action_space.contains(action):
            return Step(NOT_UNDERSTOOD, 0.0, False)
        observation, reward, terminated, self._truncated, self._info = self._env.step(action)
        self._ended = bool(terminated or self._truncated)
        self._return += float(reward)
        return Step(str(observation), float(reward) / self.options.pass_return, self._ended)

    def feedback(self, *, truncated: bool) -> str:
        """Success or failure with the return, and the text `feedback` of the environment's last info, if it has one."""
        passed = round(self._return / self.options.pass_return, 12) >= 1.0
        reached = f"a return of {self._return:g}, {self.options.pass_return:g} is a pass"
        limit = "round limit reached, " if truncated or self._truncated else ""
        said = self._info.get("feedback")
        return f"{'Success' if passed else 'Failure'}: {limit}{reached}." + (f" {said}" if said else "")

    def close(self) -> None:
        """Closes the environment."""
        self._env.close()


def _make(options: GymnasiumOptions) -> Any:
    try:
        import gymnasium
    except ImportError as error:
        raise ConfigError("environment 'gymnasium' needs a package: pip install 'oel[gymnasium]'") from error
    try:
        env = gymnasium.make(options.id, disable_env_checker=True, **options.kwargs)
    except (gymnasium.error.Error, ImportError, TypeError) as error:
        raise ConfigError(f"environment.options.id: {options.id} cannot be made: {error}") from error
    for name, space in (("observation", env.observation_space), ("action", env.action_space)):
        if not isinstance(space, gymnasium.spaces.Text):
            env.close()
            raise ConfigError(
                f"environment.options.id: the {name} space of {options.id} is {type(space).__name__}, not Text: wrap "
                "the environment so that observations and actions are texts"
            )
    return env
