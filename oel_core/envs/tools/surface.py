"""The interface of the two forms of tool calls."""

from typing import Protocol

from oel_core.envs.tools.tool import Call, Tool
from oel_core.types import Tool as Function

MAX_CHARACTERS = 4000
"""Longer responses are not searched for a call."""


class CallError(Exception):
    """A call that the tool rejects."""

    def __init__(self, message: str, usage: str) -> None:
        super().__init__(message)
        self.message = message
        """The tool's message."""
        self.usage = usage
        """How the command is used, in one line."""


class Surface(Protocol):
    """A form of tool calls."""

    def intro(self, tool: Tool) -> str:
        """One line about the tool, without any of its conventions."""
        ...

    def functions(self, tool: Tool) -> tuple[Function, ...]:
        """Functions declared in the chat template; empty if calls are text."""
        ...

    def find(self, tool: Tool, response: str) -> str | None:
        """The text of the call in a response, or None. Never raises."""
        ...

    def read(self, tool: Tool, action: str) -> Call:
        """The parsed call. Raises CallError, and nothing else, for invalid calls."""
        ...

    def write(self, tool: Tool, call: Call) -> str:
        """The call as text."""
        ...
