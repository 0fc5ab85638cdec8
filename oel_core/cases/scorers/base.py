"""The protocol of a scorer: scores an answer to a case."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel

from oel_core.cases.case import Case
from oel_core.config.fields import validate
from oel_core.evaluation.questions import Score

Options = TypeVar("Options", bound=BaseModel)
PASS = 1.0


class Scorer(Protocol):
    """Scores an answer.

    A scorer that is a judge gives opinions; its scores decide a promotion only if it agrees with people
    (`oel_core.cases.scorers.agreement`).
    """

    is_judge: bool

    def scores(self, case: Case) -> bool:
        """Whether the case has what this scorer needs, such as a reference answer."""
        ...

    def score(self, case: Case, answer: str) -> Score:
        """The score of an answer without its thinking; 1.0 is right. Never raises because of the answer's content."""
        ...


Compare = Callable[[str, str], bool]
"""(answer, reference answer) → whether they agree."""


@dataclass(frozen=True)
class AnyOf:
    """A scorer that passes an answer if it agrees with any reference answer."""

    compare: Compare
    right: str
    """Feedback for a right answer."""
    wrong: str
    is_judge: bool = False

    def scores(self, case: Case) -> bool:
        """See `Scorer`."""
        return bool(case.answers)

    def score(self, case: Case, answer: str) -> Score:
        """See `Scorer`."""
        passed = any(self.compare(answer, text) for text in case.texts)
        return Score(PASS, self.right) if passed else Score(0.0, self.wrong)


def scorer_options(scorer: str, model: type[Options], options: Mapping[str, Any]) -> Options:
    """Validated options, or ConfigError with every problem and its field."""
    what = f"scorer {scorer}"
    return validate(model, options, what, lambda place: what)
