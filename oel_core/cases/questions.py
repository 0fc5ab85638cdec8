"""Makes single-turn questions of cases."""

from collections.abc import Sequence
from dataclasses import dataclass

from oel_core.cases.case import SPLITS, Case
from oel_core.cases.scorers.base import Scorer
from oel_core.config.knowledge import InjectionConfig
from oel_core.config.sampling import Sampling
from oel_core.evaluation.questions import Question, QuestionSet, Score
from oel_core.prompts.injection import inject
from oel_core.seeds import derive_seed
from oel_core.types import Split

ENV = "cases"
"""`env` of the episodes."""


@dataclass(frozen=True)
class CaseInArm:
    """A case with the knowledge that one arm adds to its prompt."""

    id: str
    """Of the episode."""
    case: Case
    knowledge: str
    """Empty: none."""


def scorable(cases: Sequence[Case], scorer: Scorer | None) -> list[Case]:
    """The cases that the scorer can score; all of them if there is no scorer."""
    return [case for case in cases if scorer is None or scorer.scores(case)]


def case_questions(
    asked: Sequence[CaseInArm], scorer: Scorer | None, sampling: Sampling, seed: int, injection: InjectionConfig
) -> QuestionSet:
    """The questions. Sampling seeds depend only on `seed` and the case, so they are equal in every arm and round.

    Args:
        asked: at least one, all of the same share.
        scorer: None scores every answer 0.
    """

    def score(position: int, answer: str) -> Score:
        return Score(0.0, "not scored") if scorer is None else scorer.score(asked[position].case, answer)

    questions = tuple(_question(one, seed, injection) for one in asked)
    split: Split = SPLITS[asked[0].case.share]
    return QuestionSet(ENV, questions, sampling, score, split)


def _question(one: CaseInArm, seed: int, injection: InjectionConfig) -> Question:
    messages = one.case.messages
    shown = inject(messages, one.knowledge, injection) if one.knowledge else ()
    number = int(one.case.id.removeprefix("case-")[:8], 16)
    return Question(one.id, messages, number, derive_seed("cases", seed, one.case.id), shown)
