"""How a tool is called: what the two surfaces have in common."""

from typing import Protocol

from oel_core.envs.tools.tool import Call, Tool

MOST_CHARACTERS = 4000
"""Longer responses are not searched for a call."""


class CallError(Exception):
    """A call that the tool refuses."""

    def __init__(self, message: str, usage: str) -> None:
        super().__init__(message)
        self.message = message
        """What the tool says."""
        self.usage = usage
        """How the command is used, in one line."""


class Surface(Protocol):
    """A way to write calls."""

    def intro(self, tool: Tool) -> str:
        """One line about the tool, without any of its conventions."""
        ...

    def find(self, tool: Tool, response: str) -> str | None:
        """The text of the call that a response makes, or None. Never raises."""
        ...

    def read(self, tool: Tool, action: str) -> Call:
        """The call as the tool understands it. Raises CallError, and nothing else, for whatever it refuses."""
        ...

    def write(self, tool: Tool, call: Call) -> str:
        """The call as one writes it."""
        ...
