"""The error budget of a project: every trial of a candidate, its significance level and its decision.

A project tests an unlimited sequence of candidates; with a fixed level for each, a model that is no better would be
promoted sooner or later. Every level is therefore fixed before the trial's first episode, and the sum of all levels is
at most the budget times the number of promotions (times 1 before the first one). So over the life of the project the
expected number of false promotions is at most the budget times the expected number of promotions; and while no
candidate is better, the probability of any promotion is at most half the budget. Half the budget is spread over all
future trials; the first promotion adds another half, each later one a whole budget. Of each amount the n-th trial
after it gets the share 1 / (n * (n + 1)); the shares add up to 1.

Source: LORD++, in Ramdas, Yang, Wainwright and Jordan, "Online control of the false discovery rate with decaying
memory", NeurIPS 2017, after Javanmard and Montanari, Annals of Statistics 46, 2018. Every trial plays new episodes, so
its error is at most its level whatever happened before, which is all that the bound needs.

The file is replaced atomically. A trial is identified by its candidate and champion, so one that is opened again after
a kill is counted once. A trial that is never closed has used its share.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from oel_core.errors import ArtifactError
from oel_core.runs.files import write_atomic
from oel_core.runs.folder import RunFolder
from oel_core.runs.manifest import read_optional
from oel_core.types import Record

TRIALS = "gate_trials.json"


class Trial(Record):
    """One candidate tested against one champion."""

    number: int = Field(ge=1)
    """Position in the project's sequence of trials, from 1."""
    candidate: int = Field(ge=1)
    """Round of the candidate."""
    digest: str
    """Of the candidate's weights; a round that is trained again is another candidate."""
    champion: int = Field(ge=0)
    """Round of the champion; 0 is the base model."""
    budget: float = Field(gt=0, lt=1)
    """The error budget of the project when the trial was opened."""
    promotions: int = Field(ge=0)
    """Candidates promoted by the gate before this trial."""
    level: float = Field(gt=0, lt=1)
    """Significance level: upper bound of the probability that a candidate that is no better is promoted."""
    promoted: bool | None = None
    """The gate's decision; None while the trial runs."""
    evidence: float | None = None
    """Natural logarithm of the e-value for "the candidate is better" at the decision."""
    episodes: int | None = None
    """Pairs of held-out episodes played."""


class Ledger(Record):
    """`gate_trials.json` in a project's folder."""

    trials: tuple[Trial, ...] = ()
    """In the order in which they were opened."""

    @model_validator(mode="after")
    def _counted(self) -> Self:
        if [trial.number for trial in self.trials] != list(range(1, len(self.trials) + 1)):
            raise ValueError("the trials are not numbered 1, 2, 3, ...: a line was removed or added by hand")
        return self

    @property
    def promoted(self) -> list[int]:
        """Numbers of the trials whose candidate was promoted."""
        return [trial.number for trial in self.trials if trial.promoted]

    def find(self, candidate: int, digest: str, champion: int) -> Trial | None:
        """The trial of this candidate against this champion."""
        wanted = (candidate, digest, champion)
        return next((one for one in self.trials if (one.candidate, one.digest, one.champion) == wanted), None)

    def next_level(self, budget: float) -> float:
        """The level of the next trial."""
        return level(len(self.trials) + 1, self.promoted, budget)


def level(number: int, promoted: Sequence[int], budget: float) -> float:
    """The level of a trial.

    Args:
        number: of the trial, from 1.
        promoted: numbers of earlier trials whose candidate was promoted, in order.
        budget: expected share of false promotions.
    """
    amounts = [budget / 2, budget / 2, *[budget] * (len(promoted) - 1)]
    after = [number - start for start in (0, *promoted)]
    return sum(amount / (n * (n + 1)) for amount, n in zip(amounts, after, strict=False))


def read_ledger(run: RunFolder) -> Ledger:
    """The project's trials so far; an empty ledger if there are none.

    Raises:
        ArtifactError: the file is damaged. It is not replaced by an empty one, which would restore the spent budget.
    """
    path = run.path / TRIALS
    try:
        return read_optional(path, Ledger) or Ledger()
    except ArtifactError as error:
        raise ArtifactError(
            f"{path} cannot be read: restore it from a copy of the project. It counts the trials of the gate's error "
            f"budget, so no new one is started ({error.__cause__})"
        ) from error


def open_trial(run: RunFolder, candidate: int, digest: str, champion: int, budget: float) -> Trial:
    """Opens a trial of this candidate against this champion, or returns the one that was opened before.

    Call it before the first episode of the trial is played. Requires the project's lease.
    """
    ledger = read_ledger(run)
    known = ledger.find(candidate, digest, champion)
    if known is not None:
        return known
    trial = Trial(
        number=len(ledger.trials) + 1,
        candidate=candidate,
        digest=digest,
        champion=champion,
        budget=budget,
        promotions=len(ledger.promoted),
        level=ledger.next_level(budget),
    )
    _write(run, (*ledger.trials, trial))
    return trial


def close_trial(run: RunFolder, trial: Trial, *, promoted: bool, evidence: float, episodes: int) -> Trial:
    """Records the gate's decision once. Requires the project's lease.

    Raises:
        ArtifactError: the trial was closed with another decision, or never opened.
    """
    ledger = read_ledger(run)
    known = ledger.find(trial.candidate, trial.digest, trial.champion)
    if known is None:
        raise ArtifactError(f"{run.path / TRIALS} has no trial of round {trial.candidate}: it was replaced meanwhile")
    if known.promoted is not None:
        if known.promoted != promoted:
            raise ArtifactError(
                f"{run.path / TRIALS}: trial {known.number} of round {known.candidate} was decided the other way before"
            )
        return known
    closed = known.model_copy(update={"promoted": promoted, "evidence": evidence, "episodes": episodes})
    at = known.number - 1
    _write(run, (*ledger.trials[:at], closed, *ledger.trials[at + 1 :]))
    return closed


def _write(run: RunFolder, trials: Sequence[Trial]) -> None:
    path: Path = run.path / TRIALS
    write_atomic(path, Ledger(trials=tuple(trials)).model_dump_json(indent=1).encode())
