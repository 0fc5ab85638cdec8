"""Options of the tool world."""

from typing import Literal, Self

from pydantic import Field, model_validator

from oel_core.envs.options import EnvOptions
from oel_core.envs.tools.feedback import Feedback
from oel_core.envs.tools.kinds import KINDS
from oel_core.envs.tools.requests import Wordings
from oel_core.envs.tools.tool import Confirmation, Tool, draw_tool


class ToolOptions(EnvOptions):
    """Options of the `tools` environment."""

    tool: int = Field(default=1, ge=1, le=10_000)
    """Number of the tool: determines its words and conventions, independent of an episode's seed."""
    renamed: int = Field(default=0, ge=0)
    """Number of kinds of request, common ones first, whose command has another verb than the tool's number gives it: a
    new version of the tool, for `environment.changes`."""
    surface: Literal["cli", "json", "gateway", "functions"] = "cli"
    """Form of a call: a command line, JSON in the response's text, or a call of functions declared through the chat
    template: one that forwards a name and arguments (`gateway`), or each with its parameters' names (`functions`)."""
    kinds: int = Field(default=10, ge=4, le=len(KINDS))
    """Kinds of request that the tool supports; two of them are rare."""
    requests: int = Field(default=1, ge=1, le=6)
    """Requests of an episode. The next one follows after a correct call; if there are several, the last is of a rare
    kind."""
    attempts: int = Field(default=1, ge=1, le=8)
    """Wrong calls that end the episode; `max_turns` must allow for them."""
    confirmation: Confirmation = "flag"
    """How commands that need a confirmation get it: by a flag, or by a second call."""
    feedback: Feedback = "correction"
    """Feedback on a wrong call: none, that it is wrong, the tool's error, error and usage, or, after the episode, the
    right call."""
    wordings: Wordings = "by_share"
    """`by_share`: training, validation and held-out layouts are worded differently; `all`: any wording anywhere."""

    @model_validator(mode="after")
    def _enough_kinds(self) -> Self:
        if self.requests - 1 > self.kinds - 2:
            raise ValueError(f"requests is {self.requests}, but only {self.kinds - 2} kinds are common: raise kinds")
        if self.renamed > self.kinds:
            raise ValueError(f"renamed is {self.renamed}, but the tool has {self.kinds} kinds: lower renamed")
        return self

    def draw(self) -> Tool:
        """The tool that the options describe."""
        return draw_tool(self.tool, self.kinds, self.confirmation, self.renamed)
