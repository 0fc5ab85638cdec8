"""The tool world: requests in natural language, answered by calls of a tool with undocumented conventions."""

import hashlib
import json
import random
from typing import ClassVar, Final

from oel_core.config.run import ExtractionExample
from oel_core.envs.base import EnvSpec, Step
from oel_core.envs.options import parse_options
from oel_core.envs.shares import layout_share
from oel_core.envs.tools.cli_surface import CommandLine
from oel_core.envs.tools.feedback import (
    NOTHING_PENDING,
    OTHER_CALL,
    OTHER_PENDING,
    STILL_PENDING,
    final_feedback,
    in_order,
    tool_answer,
)
from oel_core.envs.tools.function_surfaces import DeclaredFunctions, Gateway
from oel_core.envs.tools.json_surface import FunctionCall, FunctionCalls
from oel_core.envs.tools.options import ToolOptions
from oel_core.envs.tools.requests import Request, draw_kinds, draw_request, example_requests
from oel_core.envs.tools.surface import CallError, Surface
from oel_core.envs.tools.tool import Call
from oel_core.errors import ConfigError
from oel_core.prompts.extraction.base import ANY_LINE, LINE_ENDS
from oel_core.prompts.extraction.itemised import MARKER
from oel_core.types import ToolCall

SURFACES: Final[dict[str, Surface]] = {
    "cli": CommandLine(),
    "json": FunctionCalls(),
    "gateway": Gateway(),
    "functions": DeclaredFunctions(),
}
NOT_UNDERSTOOD = "no call was found in the answer"
PENDING = "Waiting for a confirmation."
ROUND_LIMIT = "round limit reached"


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
        self.check(spec)
        self.tool = self.options.draw()
        self.surface = SURFACES[self.options.surface]
        self.intro, self.functions = self.surface.intro(self.tool), self.surface.functions(self.tool)
        self.layout = hashlib.sha256(f"tools/{self.options.tool}/{seed}".encode()).hexdigest()[:16]
        rng, share = random.Random(self.layout), layout_share(self.layout)
        kinds = draw_kinds(self.tool, self.options.requests, rng)
        self.requests = [draw_request(self.tool, kind, share, self.options.wordings, rng) for kind in kinds]
        self._served = self._made = self._failed = 0
        self._error = CallError(NOT_UNDERSTOOD, "")

    @classmethod
    def check(cls, spec: EnvSpec) -> None:
        """Raises ConfigError where an episode could end before its requests can be served."""
        options = parse_options(ToolOptions, spec)
        commands = options.draw().commands
        confirmed = sum(command.confirmed_by is not None for command in commands)
        needed = options.requests + min(options.requests, confirmed)
        if spec.max_turns < needed:
            raise ConfigError(
                f"environment '{spec.name}': {options.requests} request(s) can take {needed} calls with confirmation "
                f"{options.confirmation}, but max_turns is {spec.max_turns}: raise environment.max_turns"
            )

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
            self._play(action, asked)
        except CallError as error:
            self._error = error
            self._failed += action is not None
            said = "Failed." if self._over else tool_answer(self.options.feedback, error)
            return self._step(said if self._over else f"{said}\nRequest: {asked.text}")
        self._made += 1
        if self._made < len(asked.calls):
            return self._step(f"{PENDING}\nRequest: {asked.text}")
        self._served, self._made = self._served + 1, 0
        said = "Done." if self._passed else f"Done.\nRequest: {self.requests[self._served].text}"
        return self._step(said, 1 / len(self.requests))

    def _play(self, action: str | None, asked: Request) -> None:
        """Raises CallError unless the action is the request's next call."""
        if action is None:
            raise CallError(NOT_UNDERSTOOD, "")
        call = self.surface.read(self.tool, action)
        if call != asked.calls[self._made]:
            raise CallError(self._refusal(call, asked), "")

    def _refusal(self, call: Call, asked: Request) -> str:
        """The tool's answer to a valid call that is not the expected one."""
        if call in asked.calls[: self._made]:
            return STILL_PENDING
        if call.kind not in {command.kind.name for command in self.tool.commands}:
            return NOTHING_PENDING
        return OTHER_CALL if self.tool.command(call.kind).confirmed_by is None else OTHER_PENDING

    def as_call(self, action: str) -> ToolCall:
        """See `oel_core.envs.base.FunctionCalling.as_call`."""
        call = FunctionCall.model_validate_json(action)
        return ToolCall(name=call.name, arguments=json.dumps(call.arguments))

    def _written(self, request: Request) -> list[str]:
        return [self.surface.write(self.tool, call) for call in request.calls]

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
            right=self._written(asked),
        )

    def truths(self) -> str:
        """Ground-truth knowledge of the tool: examples of each kind of request, none of them held out."""
        examples = [example for command in self.tool.commands for example in example_requests(self.tool, command.kind)]
        return "\n".join(
            f'{MARKER} "{example.text}" is done with: {in_order(self._written(example))}' for example in examples
        )

    def close(self) -> None:
        """No-op."""
