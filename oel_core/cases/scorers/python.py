"""A scorer for Python code: runs the answer and the case's assertions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from oel_core.cases.case import Case
from oel_core.cases.scorers.base import PASS, scorer_options
from oel_core.config.section import Section
from oel_core.evaluation.code.sandbox import CodeError, returned_values
from oel_core.evaluation.code.suite import code_of
from oel_core.evaluation.questions import Score

_DONE = "oel_ran_to_its_end"


class PythonOptions(Section):
    """Options of `python`."""

    asserts: bool = False
    """Reference answers are Python code that runs after the answer's, such as `assert area(2, 3) == 6`."""


@dataclass(frozen=True)
class RunsPython:
    """Runs the answer's last fenced block, or all of it, in the sandbox of the suite `python_code`."""

    options: PythonOptions
    is_judge: bool = False

    def scores(self, case: Case) -> bool:
        """See `Scorer`."""
        return bool(case.answers) or not self.options.asserts

    def score(self, case: Case, answer: str) -> Score:
        """See `Scorer`. Passes if any reference answer's code runs without an error."""
        code, problems = code_of(answer, ""), []
        for checks in case.texts if self.options.asserts else ("",):
            program = f"{code}\n{checks}\ndef {_DONE}(): return True\n"
            try:
                if returned_values(program, _DONE, [()]) == [True]:
                    return Score(PASS, "it ran to its end")
            except CodeError as error:
                problems.append(str(error))
        return Score(0.0, "; ".join(problems) or "it did not run to its end")


def make_python(options: Mapping[str, Any]) -> RunsPython:
    """See `RunsPython`."""
    return RunsPython(scorer_options("python", PythonOptions, options))
