"""The `python_code` suite: small functions in Python, tested with cases in a sandbox.

Forty tasks written for this project (`problems.jsonl`). An out-of-distribution measurement of forgetting, not a
benchmark of models.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field

from oel_core.config.run import Count, OelConfig, Section
from oel_core.config.sampling import Sampling
from oel_core.errors import ConfigError
from oel_core.evaluation.base import OnEpisode, ignore, summarise
from oel_core.evaluation.code.sandbox import CodeError, returned_values
from oel_core.evaluation.options import parse_options
from oel_core.evaluation.questions import Question, QuestionSet, Score, pick
from oel_core.policies.base import Policy
from oel_core.runs.jsonl import read_jsonl
from oel_core.seeds import derive_seed
from oel_core.types import EvalReport, Message, Record, Trajectory

PROBLEMS = Path(__file__).with_name("problems.jsonl")
_FENCED = re.compile(r"^```[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)


class CodeOptions(Section):
    """Options of the `python_code` suite."""

    episodes: Count | None = None
    """Number of problems, spread over all; null for all 40."""
    seed: int = Field(default=42, ge=0)
    """Seed of the sampling; the same in every round."""
    thinking: bool = False
    """Whether the model thinks before it answers."""
    sampling: Sampling = Sampling(temperature=0.0, max_tokens=400)


class Case(Record):
    """One call of a problem's function."""

    args: tuple[Any, ...]
    expected: Any


class Problem(Record):
    """One line of the data."""

    function: str
    signature: str
    """The `def` line."""
    task: str
    """What the function does, in English."""
    cases: tuple[Case, ...] = Field(min_length=1)

    @property
    def messages(self) -> tuple[Message, ...]:
        """The prompt: no case is shown."""
        text = f"Write a Python function.\n\n{self.signature}\n\n{self.task}\n\nAnswer with the code only."
        return (Message(role="user", content=text),)


@cache
def problems() -> tuple[Problem, ...]:
    """All problems, in their order."""
    return tuple(read_jsonl(PROBLEMS, Problem))


def code_of(answer: str, function: str) -> str:
    """The last fenced block that defines the function, or the last one, or the whole answer."""
    blocks: list[str] = _FENCED.findall(answer if answer.endswith("\n") else f"{answer}\n")
    defining = [block for block in blocks if f"def {function}" in block]
    return (defining or blocks or [answer])[-1]


@dataclass(frozen=True)
class PythonCode:
    """The problems of one measurement."""

    options: CodeOptions
    asked: tuple[Problem, ...]

    @property
    def name(self) -> str:
        """`python_code`, or `python_code_subset_<n>`."""
        return "python_code" if len(self.asked) == len(problems()) else f"python_code_subset_{len(self.asked)}"

    @property
    def thinking(self) -> bool:
        """See `QuestionSuite`."""
        return self.options.thinking

    @property
    def total(self) -> int:
        """See `Suite`."""
        return len(self.asked)

    def run(self, policy: Policy, *, done: Sequence[Trajectory] = (), on_episode: OnEpisode = ignore) -> EvalReport:
        """See `Suite.run`. A problem is passed if the function returns the expected value for every case."""
        questions = tuple(
            Question(f"python-code-{problem.function}", problem.messages, number, self._seed(problem))
            for number, problem in enumerate(self.asked)
        )
        episodes = QuestionSet("python_code", questions, self.options.sampling, self._score).run(
            policy, done, on_episode
        )
        return summarise(self.name, policy.name, episodes, layouts=len(self.asked))

    def _seed(self, problem: Problem) -> int:
        return derive_seed("python_code", self.options.seed, problem.function)

    def _score(self, position: int, answer: str) -> Score:
        problem = self.asked[position]
        try:
            values = returned_values(
                code_of(answer, problem.function), problem.function, [case.args for case in problem.cases]
            )
        except CodeError as error:
            return Score(0.0, f"no values: {error}")
        wrong = [
            f"{problem.function}{case.args} gave {value!r}, not {case.expected!r}"
            for case, value in zip(problem.cases, values, strict=True)
            if not _same(value, case.expected)
        ]
        return Score(0.0, wrong[0]) if wrong else Score(1.0, "every case as expected")


def _same(value: Any, expected: Any) -> bool:
    """Equal values of the same kind: a number is not equal to a truth value."""
    return value == expected and isinstance(value, bool) == isinstance(expected, bool)


def make_python_code(options: Mapping[str, Any], config: OelConfig) -> PythonCode:
    """The suite. ConfigError: an option is wrong, or exceeds the number of problems."""
    chosen = parse_options("python_code", CodeOptions, options)
    if chosen.episodes is not None and chosen.episodes > len(problems()):
        raise ConfigError(f"suite python_code: episodes is {chosen.episodes}, but there are {len(problems())} problems")
    order = {problem.function: derive_seed("python_code", problem.function) for problem in problems()}
    return PythonCode(chosen, tuple(pick(problems(), chosen.episodes, lambda problem: order[problem.function])))
