"""Cases as questions to a policy."""

from collections.abc import Sequence
from dataclasses import dataclass

from oel_core.cases.case import SPLITS, Case
from oel_core.cases.scorers.base import Scorer
from oel_core.config.knowledge import InjectionConfig
from oel_core.config.sampling import Sampling
from oel_core.evaluation.questions import Asking, Question, Score
from oel_core.prompts.injection import inject
from oel_core.seeds import derive_seed
from oel_core.types import Split

ENV = "cases"
"""What the episodes give as their environment."""


@dataclass(frozen=True)
class Asked:
    """One case with what is put before the model."""

    id: str
    """Of its episode."""
    case: Case
    knowledge: str
    """An empty one is none."""


def scorable(cases: Sequence[Case], scorer: Scorer | None) -> list[Case]:
    """The cases that the scorer can score; all of them without one."""
    return [case for case in cases if scorer is None or scorer.scores(case)]


def asking(
    asked: Sequence[Asked], scorer: Scorer | None, sampling: Sampling, seed: int, injection: InjectionConfig
) -> Asking:
    """The questions. An answer is drawn alike in every arm and round: its seed depends on `seed` and the case.

    Args:
        asked: at least one, all of one share.
        scorer: None gives every answer 0.
    """

    def score(position: int, answer: str) -> Score:
        return Score(0.0, "not scored") if scorer is None else scorer.score(asked[position].case, answer)

    questions = tuple(_question(one, seed, injection) for one in asked)
    split: Split = SPLITS[asked[0].case.share]
    return Asking(ENV, questions, sampling, score, split)


def _question(one: Asked, seed: int, injection: InjectionConfig) -> Question:
    messages = one.case.messages
    shown = inject(messages, one.knowledge, injection) if one.knowledge else ()
    number = int(one.case.id.removeprefix("case-")[:8], 16)
    return Question(one.id, messages, number, derive_seed("cases", seed, one.case.id), shown)
