"""What a scorer is: a case and an answer to it give a score."""

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
    """Says whether an answer is right.

    A scorer is a judge where its word is an opinion: it decides about a promotion only if it agrees with people
    (`oel_core.cases.scorers.agreement`).
    """

    is_judge: bool

    def scores(self, case: Case) -> bool:
        """Whether enough is known about the case for this scorer."""
        ...

    def score(self, case: Case, answer: str) -> Score:
        """What an answer without its thinking is worth: 1.0 is right. Never raises for what the answer says."""
        ...


Compare = Callable[[str, str], bool]
"""(answer, a text that is right) → whether the answer says the same."""


@dataclass(frozen=True)
class AnyOf:
    """A scorer that compares an answer with each text that is known to be right."""

    compare: Compare
    right: str
    """What the feedback says of a right answer."""
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
