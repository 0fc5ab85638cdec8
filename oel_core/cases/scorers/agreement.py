"""Agreement of a judge with people's verdicts on recorded answers, which decides whether its scores may be used."""

from collections.abc import Sequence

from pydantic import Field

from oel_core.cases.case import Case
from oel_core.cases.scorers.base import PASS, Scorer
from oel_core.config.operation import CasesConfig
from oel_core.evaluation.questions import visible
from oel_core.seeds import derive_seed
from oel_core.types import Record

MAX_TRIED = 100
"""Maximum recorded answers that a judge scores."""


class Agreement(Record):
    """A judge compared with people on the same recorded answers."""

    rated: int = Field(ge=0)
    """Answers scored by both."""
    agreed: int = Field(ge=0)
    people_passed: int = Field(ge=0)
    judge_passed: int = Field(ge=0)

    @property
    def kappa(self) -> float:
        """Cohen's kappa: agreement beyond chance; 0 if either passed all or none.

        Source: J. Cohen, "A coefficient of agreement for nominal scales", Educational and Psychological Measurement 20,
        1960.
        """
        if not self.rated:
            return 0.0
        people, judge = self.people_passed / self.rated, self.judge_passed / self.rated
        chance = people * judge + (1 - people) * (1 - judge)
        return (self.agreed / self.rated - chance) / (1 - chance) if chance < 1 else 0.0

    def problem(self, settings: CasesConfig) -> str:
        """Why the judge's scores may not decide; empty if they may."""
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
    """Compares the scorer with people on at most `MAX_TRIED` recorded answers with a verdict, chosen by a hash.

    The scorer sees neither the verdict nor that the recorded answer was approved.
    """
    rated = [case for case in cases if case.verdict is not None and scorer.scores(case)]
    tried = sorted(rated, key=lambda case: derive_seed("agreement", case.id))[:MAX_TRIED]
    people = [case.verdict == PASS for case in tried]
    judged = [scorer.score(_without_approval(case), visible(case.recorded)).reward >= PASS for case in tried]
    return Agreement(
        rated=len(tried),
        agreed=sum(one == other for one, other in zip(people, judged, strict=True)),
        people_passed=sum(people),
        judge_passed=sum(judged),
    )


def _without_approval(case: Case) -> Case:
    return case.model_copy(update={"answers": tuple(one for one in case.answers if one.kind != "approved")})
