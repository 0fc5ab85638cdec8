"""The tool world: requests in natural language, answered by calls of a tool with undocumented conventions."""

import hashlib
import random
from typing import ClassVar, Final, Literal, Self

from pydantic import Field, model_validator

from oel_core.config.run import ExtractionExample
from oel_core.envs.base import EnvSpec, Step
from oel_core.envs.options import EnvOptions, parse_options
from oel_core.envs.shares import layout_share
from oel_core.envs.tools.cli_surface import CommandLine
from oel_core.envs.tools.feedback import OTHER_CALL, Feedback, final_feedback, tool_answer
from oel_core.envs.tools.json_surface import FunctionCalls
from oel_core.envs.tools.kinds import KINDS
from oel_core.envs.tools.requests import Wordings, draw_kinds, draw_request, example_requests
from oel_core.envs.tools.surface import CallError, Surface
from oel_core.envs.tools.tool import draw_tool
from oel_core.prompts.extraction.base import ANY_LINE, LINE_ENDS
from oel_core.prompts.extraction.itemised import MARKER

SURFACES: Final[dict[str, Surface]] = {"cli": CommandLine(), "json": FunctionCalls()}
NOT_UNDERSTOOD = "no call was found in the answer"
ROUND_LIMIT = "round limit reached"


class ToolOptions(EnvOptions):
    """Options of the `tools` environment."""

    tool: int = Field(default=1, ge=1, le=10_000)
    """Number of the tool: determines its words and conventions, independent of an episode's seed."""
    surface: Literal["cli", "json"] = "cli"
    """Form of a call: a command line, or a function call in JSON."""
    kinds: int = Field(default=10, ge=4, le=len(KINDS))
    """Kinds of request that the tool supports; two of them are rare."""
    requests: int = Field(default=1, ge=1, le=6)
    """Requests of an episode. The next one follows after a correct call; if there are several, the last is of a rare
    kind."""
    attempts: int = Field(default=1, ge=1, le=8)
    """Wrong calls that end the episode; `max_turns` must allow for them."""
    feedback: Feedback = "correction"
    """Feedback on a wrong call: none, that it is wrong, the tool's error, error and usage, or, after the episode, the
    right call."""
    wordings: Wordings = "by_share"
    """`by_share`: training, validation and held-out layouts are worded differently; `all`: any wording anywhere."""

    @model_validator(mode="after")
    def _enough_common_kinds(self) -> Self:
        if self.requests - 1 > self.kinds - 2:
            raise ValueError(f"requests is {self.requests}, but only {self.kinds - 2} kinds are common: raise kinds")
        return self


def _example(request: str, answer: str, right: str, end: str) -> ExtractionExample:
    episode = f"Episode:\n## Turn 1\nRequest: {request}\nAnswer: {answer}\n## End\n{end}"
    return ExtractionExample(episode=episode, answer=f'{MARKER} "{request}" is done with: {right}')


class ToolEnv:
    """A user asks in plain language; the player answers with one call of a tool that has its own words and conventions.

    The layout is the episode's sampled content; its share determines slot values and wording, so with `split_by_layout`
    the held-out requests have values and wordings that do not occur in training.
    """

    Options: ClassVar = ToolOptions
    instructions = (
        "You serve a user's requests with a tool whose manual nobody has given you. Answer each request with one call "
        "of the tool and nothing else."
    )
    extraction_task = (
        "You study one finished episode: a user asked for something, and an assistant answered with a call of a tool. "
        "Write down how such a request is done right: quote the request, then the right call."
    )
    extraction_examples = (
        _example(
            "Please start engine 7 in Rome.",
            "plant start engine 7",
            "plant motors up 7 --at rome",
            "Failed.\nFeedback: Failure: no such command: start. The right call was: plant motors up 7 --at rome",
        ),
        _example(
            "Can you tell me how warm engine 12 is?",
            "plant motors heat 12",
            "plant motors heat 12",
            "Done.\nFeedback: Success: everything was done as asked.",
        ),
    )
    """Of a tool that does not exist: a failed episode and one that passed."""
    item_shape = rf'"[^"{LINE_ENDS}]+" is done with: {ANY_LINE}'
    """See `oel_core.envs.answer_shape`."""

    def __init__(self, spec: EnvSpec, seed: int) -> None:
        """Samples the requests. Raises ConfigError for a wrong option."""
        self.options = parse_options(ToolOptions, spec)
        self.tool = draw_tool(self.options.tool, self.options.kinds)
        self.surface = SURFACES[self.options.surface]
        self.intro = self.surface.intro(self.tool)
        self.layout = hashlib.sha256(f"tools/{self.options.tool}/{seed}".encode()).hexdigest()[:16]
        rng, share = random.Random(self.layout), layout_share(self.layout)
        kinds = draw_kinds(self.tool, self.options.requests, rng)
        self.requests = [draw_request(self.tool, kind, share, self.options.wordings, rng) for kind in kinds]
        self._served = self._failed = 0
        self._error = CallError(NOT_UNDERSTOOD, "")

    @property
    def _passed(self) -> bool:
        return self._served == len(self.requests)

    @property
    def _over(self) -> bool:
        return self._passed or self._failed == self.options.attempts

    def start(self) -> str:
        """The first request."""
        return f"Request: {self.requests[0].text}"

    def parse(self, response: str) -> str | None:
        """The text of the last call in the response."""
        return self.surface.find(self.tool, response)

    def step(self, action: str | None) -> Step:
        """Compares the call with the right one. Calls with the same effect are equal, however they are written."""
        if self._over:
            return self._step("The episode is over.")
        asked = self.requests[self._served]
        try:
            if action is None:
                raise CallError(NOT_UNDERSTOOD, "")
            if self.surface.read(self.tool, action) != asked.call:
                raise CallError(OTHER_CALL, "")
        except CallError as error:
            self._error = error
            self._failed += action is not None
            said = "Failed." if self._over else tool_answer(self.options.feedback, error)
            return self._step(said if self._over else f"{said}\nRequest: {asked.text}")
        self._served += 1
        said = "Done." if self._passed else f"Done.\nRequest: {self.requests[self._served].text}"
        return self._step(said, 1 / len(self.requests))

    def _step(self, observation: str, reward: float = 0.0) -> Step:
        return Step(observation, reward, terminated=self._over)

    def feedback(self, *, truncated: bool) -> str:
        """How the episode ended, in the detail that the option sets."""
        asked = self.requests[min(self._served, len(self.requests) - 1)]
        return final_feedback(
            self.options.feedback,
            passed=self._passed,
            reason=ROUND_LIMIT if truncated else self._error.message,
            usage=self._error.usage,
            right=self.surface.write(self.tool, asked.call),
        )

    def truths(self) -> str:
        """Ground-truth knowledge of the tool: examples of each kind of request, none of them held out."""
        examples = [example for command in self.tool.commands for example in example_requests(self.tool, command.kind)]
        return "\n".join(
            f'{MARKER} "{example.text}" is done with: {self.surface.write(self.tool, example.call)}'
            for example in examples
        )

    def close(self) -> None:
        """No-op."""
