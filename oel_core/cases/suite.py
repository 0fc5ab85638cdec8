"""The suite `cases`: a model answers held-out requests of recorded sessions, in the arms of the suite `games`.

Each case is a single-turn question: the recorded request is the prompt, and a scorer scores the answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from oel_core.cases.case import Case
from oel_core.cases.frozen import one_a_session, read_cases
from oel_core.cases.questions import CaseInArm, case_questions, scorable
from oel_core.cases.scorers import Scorer, make_scorer
from oel_core.cases.scorers.agreement import Agreement, agreement
from oel_core.config.knowledge import InjectionConfig
from oel_core.config.names import ScorerName
from oel_core.config.operation import CasesConfig
from oel_core.config.run import OelConfig
from oel_core.config.section import Count, Options, Section
from oel_core.errors import ConfigError
from oel_core.evaluation.base import OnEpisode, ignore, summarise
from oel_core.evaluation.games import Arm
from oel_core.evaluation.options import parse_options
from oel_core.policies.base import Policy
from oel_core.types import EvalReport, Trajectory

NO_SCORER = "nothing says whether an answer is right: set evaluate.cases.scorer"


class CasesOptions(Section):
    """Options of the `cases` suite."""

    file: str
    """A frozen set, such as `runs/shop/round_01/cases.jsonl`."""
    digest: str | None = None
    """Expected digest of the set, which `oel cases` shows; null: any."""
    arm: Arm = "plain"
    """As in `games`: what is added to the prompt."""
    texts: tuple[str, ...] = ()
    """Case i gets text i modulo their number."""
    episodes: Count | None = None
    """Maximum number of cases; null: `evaluate.cases.episodes`."""
    scorer: ScorerName | None = None
    """Null: `evaluate.cases.scorer` with its options."""
    options: Options = Field(default_factory=dict)
    """Options of the scorer named here."""
    thinking: bool | None = None
    """Whether the model thinks before it answers; null: `model.thinking`."""


@dataclass(frozen=True)
class Cases:
    """The cases of one evaluation. See `Suite`."""

    name: str
    asked: tuple[CaseInArm, ...]
    all_cases: tuple[Case, ...]
    """The whole set, on whose recorded answers a judge is compared with people."""
    scorer: Scorer | None
    settings: CasesConfig
    seed: int
    injection: InjectionConfig
    thinking: bool
    """See `QuestionSuite`."""

    @property
    def total(self) -> int:
        """See `Suite`."""
        return len(self.asked)

    def run(self, policy: Policy, *, done: Sequence[Trajectory] = (), on_episode: OnEpisode = ignore) -> EvalReport:
        """See `Suite.run`. If the pass rate may not decide a promotion, the report says why.

        Raises:
            ConfigError: there are no cases, or none that the scorer can score.
        """
        if not self.asked:
            raise ConfigError(self._empty_set_message())
        compared = agreement(self.scorer, self.all_cases) if self.scorer is not None and self.scorer.is_judge else None
        asked = case_questions(self.asked, self.scorer, self.settings.sampling, self.seed, self.injection)
        episodes = asked.run(policy, done, on_episode)
        report = summarise(self.name, policy.name, episodes, layouts=len(self.asked))
        return report.model_copy(update={"extra": self._extra(compared), "undecided": self._undecided(compared)})

    def _empty_set_message(self) -> str:
        if not self.all_cases:
            return "suite cases: the set is empty: no session of the inbox was set apart, since there are too few"
        return (
            f"suite cases: the scorer can score none of the {len(self.all_cases)} cases: it needs right answers, from "
            "corrections, expected answers or calls that succeeded later. Record feedback, or name another scorer"
        )

    def _extra(self, compared: Agreement | None) -> dict[str, Any]:
        newest = max(one.case.round for one in self.asked)
        found: dict[str, Any] = {
            "scorer": self.settings.scorer or "none",
            "of_the_newest_round": sum(one.case.round == newest for one in self.asked),
        }
        return found if compared is None else found | {"judge": {**compared.model_dump(), "kappa": compared.kappa}}

    def _undecided(self, compared: Agreement | None) -> str:
        if self.scorer is None:
            return NO_SCORER
        return "" if compared is None else compared.problem(self.settings)


def make_cases(options: Mapping[str, Any], config: OelConfig) -> Cases:
    """The suite for a run's configuration.

    Raises:
        ConfigError: an option is invalid, or `texts` does not fit the arm.
        ArtifactError: the set cannot be read, or its digest differs.
    """
    chosen = parse_options("cases", CasesOptions, options)
    if bool(chosen.texts) != (chosen.arm != "plain"):
        raise ConfigError(f"suite cases: arm {chosen.arm} was given {len(chosen.texts)} texts; only plain reads none")
    named = {"scorer": chosen.scorer, "options": chosen.options} if chosen.scorer is not None else {}
    settings = config.evaluate.cases.model_copy(update=named)
    scorer = scorer_of(settings)
    found = read_cases(Path(chosen.file), chosen.digest)
    kept = one_a_session(scorable(found, scorer), "held_out", chosen.episodes or settings.episodes)
    return Cases(
        name="cases" if chosen.arm == "plain" else f"cases_{chosen.arm}",
        asked=tuple(
            CaseInArm(case.id, case, chosen.texts[number % len(chosen.texts)] if chosen.texts else "")
            for number, case in enumerate(kept)
        ),
        all_cases=tuple(found),
        scorer=scorer,
        settings=settings,
        seed=config.seed,
        injection=config.knowledge.injection if chosen.arm == "in_context" else InjectionConfig(),
        thinking=config.model.thinking if chosen.thinking is None else chosen.thinking,
    )


def scorer_of(settings: CasesConfig) -> Scorer | None:
    """The project's scorer; None if it has none. Raises ConfigError as `make_scorer`."""
    return None if settings.scorer is None else make_scorer(settings.scorer, settings.options)
