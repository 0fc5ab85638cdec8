"""Whether a judge's word may count: how far it agrees with what people said about recorded answers."""

from collections.abc import Sequence

from pydantic import Field

from oel_core.cases.case import Case
from oel_core.cases.scorers.base import PASS, Scorer
from oel_core.config.operation import CasesConfig
from oel_core.evaluation.questions import visible
from oel_core.seeds import derive_seed
from oel_core.types import Record

MOST = 100
"""Recorded answers that a judge is tried on."""


class Agreement(Record):
    """A judge beside people, on the same recorded answers."""

    rated: int = Field(ge=0)
    """Answers that both judged."""
    agreed: int = Field(ge=0)
    people_passed: int = Field(ge=0)
    judge_passed: int = Field(ge=0)

    @property
    def kappa(self) -> float:
        """Cohen's kappa: agreement beyond what the shares of passes alone give; 0 where either passed all or none.

        Source: J. Cohen, "A coefficient of agreement for nominal scales", Educational and Psychological Measurement 20,
        1960.
        """
        if not self.rated:
            return 0.0
        people, judge = self.people_passed / self.rated, self.judge_passed / self.rated
        chance = people * judge + (1 - people) * (1 - judge)
        return (self.agreed / self.rated - chance) / (1 - chance) if chance < 1 else 0.0

    def problem(self, settings: CasesConfig) -> str:
        """Why the judge's word does not count; empty where it does."""
        if self.rated < settings.judge_rated:
            return (
                f"the judge was compared with people on {self.rated} answers, evaluate.cases.judge_rated asks for "
                f"{settings.judge_rated}"
            )
        if self.kappa < settings.judge_kappa:
            return (
                f"the judge agrees with people on {self.agreed} of {self.rated} answers (kappa {self.kappa:.2f}), "
                f"evaluate.cases.judge_kappa asks for {settings.judge_kappa:g}"
            )
        return ""


def agreement(scorer: Scorer, cases: Sequence[Case]) -> Agreement:
    """The scorer beside people on at most `MOST` recorded answers with a verdict, drawn by a hash of the case.

    The scorer is not told the verdict, nor that the recorded answer was approved.
    """
    rated = [case for case in cases if case.verdict is not None and scorer.scores(case)]
    tried = sorted(rated, key=lambda case: derive_seed("agreement", case.id))[:MOST]
    people = [case.verdict == PASS for case in tried]
    judged = [scorer.score(_untold(case), visible(case.recorded)).reward >= PASS for case in tried]
    return Agreement(
        rated=len(tried),
        agreed=sum(one == other for one, other in zip(people, judged, strict=True)),
        people_passed=sum(people),
        judge_passed=sum(judged),
    )


def _untold(case: Case) -> Case:
    return case.model_copy(update={"answers": tuple(one for one in case.answers if one.kind != "approved")})
