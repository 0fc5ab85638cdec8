"""Doors that open when they are greeted in their own language. Which door speaks which, the player has to find out."""

import random
import re

from pydantic import Field

from oel_core.envs.base import HIDDEN_RULES, LEARN_RULES, EnvSpec, Step
from oel_core.envs.options import EnvOptions, parse_options

GREETINGS = ("hello", "bonjour", "hola", "ciao", "hej")


class HelloOptions(EnvOptions):
    """Options of the doors."""

    doors: int = Field(default=3, ge=1, le=5)
    """Doors to open, one after the other."""


class HelloEnv:
    """Greet door after door in its language, which is a secret of the seed."""

    Options = HelloOptions
    instructions = HIDDEN_RULES
    extraction_task = LEARN_RULES

    def __init__(self, spec: EnvSpec, seed: int) -> None:
        options = parse_options(HelloOptions, spec)
        self._languages = random.Random(seed).choices(GREETINGS, k=options.doors)
        self._open = 0
        self.layout = "-".join(self._languages)
        self.intro = f"You stand before a row of doors. Actions: {' '.join(f'[{word}]' for word in GREETINGS)}"

    def start(self) -> str:
        """What one sees of the row."""
        return f"Doors open: {self._open} of {len(self._languages)}."

    def parse(self, response: str) -> str | None:
        """The last greeting in square brackets."""
        found = re.findall(rf"\[({'|'.join(GREETINGS)})\]", response)
        return found[-1] if found else None

    def step(self, action: str | None) -> Step:
        """The first shut door opens if it is greeted in its language. Every door is worth the same."""
        opened = not self._over and action == self._languages[self._open]
        self._open += opened
        return Step(self.start(), opened / len(self._languages), self._over)

    def feedback(self, *, truncated: bool) -> str:
        """How it ended."""
        if self._over:
            return "Success: every door is open."
        return "Failure: round limit reached." if truncated else f"Failure: door {self._open + 1} is shut."

    def close(self) -> None:
        """Nothing is held."""

    @property
    def _over(self) -> bool:
        return self._open == len(self._languages)
