"""Scores knowledge in context, on validation episodes of the run's environment or on validation cases."""

from collections.abc import Sequence
from pathlib import Path

from oel_core.cases import validation as cases
from oel_core.cases.frozen import read_cases
from oel_core.config.run import OelConfig
from oel_core.evaluation import validation as games
from oel_core.evaluation.validation import Candidate
from oel_core.knowledge.selection_records import Score
from oel_core.policies.base import Policy
from oel_core.rounds.round import Round
from oel_core.runs.manifest import digest_file
from oel_core.runs.progress import Progress
from oel_core.stages.evaluate import SCORING

GAMES = ("environment", "play")


def scoring_sections(config: OelConfig) -> tuple[str, ...]:
    """The settings that scores depend on."""
    return SCORING if config.evaluate.held_out == "cases" else ("seed", "model", *GAMES)


def choosing_sections(config: OelConfig) -> tuple[str, ...]:
    """The settings that a choice by scores depends on: also what a judge has to show first."""
    judged = ("evaluate.cases.judge_kappa", "evaluate.cases.judge_rated")
    return (*scoring_sections(config), *(judged if config.evaluate.held_out == "cases" else ()))


def unreliable(round: Round) -> str:
    """Why scores may not choose, as `oel_core.cases.validation.unreliable`; empty if they may."""
    config = round.config
    return cases.unreliable(config, read_cases(round.cases())) if config.evaluate.held_out == "cases" else ""


def scoring_inputs(round: Round) -> dict[str, str]:
    """The set of cases, if there is one, as an input of the stage."""
    return {"cases": digest_file(round.cases())} if round.config.evaluate.held_out == "cases" else {}


def score_candidates(
    round: Round, policy: Policy, candidates: Sequence[Candidate], episodes: int, path: Path, on_progress: Progress
) -> tuple[dict[str, Score], int]:
    """Label → score of every candidate, and the number of distinct boards or sessions.

    Raises:
        ConfigError: there are no validation episodes or cases.
    """
    config, number = round.config, round.number
    if config.evaluate.held_out == "cases":
        asked = cases.validation_cases(config, read_cases(round.cases()), episodes)
        return cases.score_texts(config, policy, candidates, asked, number, path, on_progress), len(asked)
    scores = games.score_texts(config, policy, candidates, number, episodes, path, on_progress)
    return scores, games.validation_layouts(config, number, episodes)
