"""A complete small environment: the template of `oel new env`."""

import random
import re

from pydantic import Field

from oel_core.envs.base import HIDDEN_RULES, LEARN_RULES, EnvSpec, Step
from oel_core.envs.options import EnvOptions, parse_options

COLOURS = ("red", "green", "blue", "white", "black", "yellow")


class SkeletonOptions(EnvOptions):
    """Options, as `environment.options` gives them. A docstring under a field is what `oel envs` says about it."""

    buttons: int = Field(default=4, ge=3, le=6)
    """Buttons on the wall."""


class SkeletonEnv:
    """Buttons on a wall, of which one colour opens the door."""

    Options = SkeletonOptions
    # The beginning of every prompt: what is asked for and how an action is written. The same for every seed.
    instructions = HIDDEN_RULES
    # The task of the extractor: what this kind of environment is, and what is worth learning about it.
    extraction_task = LEARN_RULES

    def __init__(self, spec: EnvSpec, seed: int) -> None:
        self.options = parse_options(SkeletonOptions, spec)
        # Whatever is drawn comes from the seed alone: the same seed is the same episode.
        self.colours = random.Random(seed).sample(COLOURS[: self.options.buttons], self.options.buttons)
        # The hidden rule, which holds in every episode and which a policy can learn.
        self._opens = "blue"
        self._over = False
        # One line: who the player is and which actions exist, never what they do.
        self.intro = f"You stand before a door. Actions: {' '.join(f'[{colour}]' for colour in sorted(self.colours))}"
        # A key of the initial layout: `environment.split_by_layout` keeps training and held-out episodes apart by it.
        self.layout = "-".join(self.colours)

    def start(self) -> str:
        """The first observation."""
        return f"On the wall, from left to right: {', '.join(self.colours)}."

    def parse(self, response: str) -> str | None:
        """The last colour in square brackets; None is no action. Responses are untrusted text."""
        found = [word for word in re.findall(r"\[([a-z]+)\]", response) if word in self.colours]
        return found[-1] if found else None

    def step(self, action: str | None) -> Step:
        """Presses a button. An invalid action is answered, never raised; rewards of a passed episode add to 1.0."""
        if self._over:
            return Step("The door is open.", 0.0, terminated=True)
        if action not in self.colours:
            return Step("There is no such button.", 0.0, terminated=False)
        self._over = action == self._opens
        answer = "The door opens." if self._over else "Nothing happens."
        return Step(answer, float(self._over), terminated=self._over)

    def feedback(self, *, truncated: bool) -> str:
        """How the episode ended, which is the last that the extractor reads."""
        return "Success: the door is open." if self._over else "Failure: the door stayed shut."

    def close(self) -> None:
        """Frees the episode's processes, files and connections. May be called twice."""
