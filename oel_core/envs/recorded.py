"""Recorded conversations: the environment's name in projects that have none."""

from typing import Final

from oel_core.envs.base import EnvSpec
from oel_core.envs.options import EnvOptions, parse_options
from oel_core.errors import ConfigError

LEARN_FROM_CONVERSATIONS: Final = (
    "You study one finished conversation of an assistant with a user, with the functions it called, their results and "
    "what people said about its answers. Work out what is worth knowing in other conversations: what users want, which "
    "calls succeed and which fail, what the right answer was where one was corrected."
)


class Recorded:
    """Recorded conversations of a deployment, read from an inbox; there is nothing to play."""

    class Options(EnvOptions):
        """There are none."""

    playable = False
    instructions = ""
    intro = ""
    extraction_task = LEARN_FROM_CONVERSATIONS

    def __init__(self, spec: EnvSpec, seed: int) -> None:
        """Raises ConfigError always."""
        parse_options(self.Options, spec)
        raise ConfigError(f"environment '{spec.name}' cannot be played: its experience comes from experience.inbox")
