"""Scores knowledge files on validation cases; `oel_core.evaluation.validation` does so on validation episodes."""

from collections.abc import Sequence
from pathlib import Path

from oel_core.cases.case import Case
from oel_core.cases.frozen import one_a_session
from oel_core.cases.questions import CaseInArm, case_questions, scorable
from oel_core.cases.scorers.agreement import agreement
from oel_core.cases.suite import scorer_of
from oel_core.config.run import OelConfig
from oel_core.errors import ConfigError
from oel_core.evaluation.validation import Candidate, score_of
from oel_core.knowledge.selection_records import Score
from oel_core.policies.base import Policy
from oel_core.runs.jsonl import JsonlWriter, recover_jsonl
from oel_core.runs.progress import Progress
from oel_core.types import Trajectory


def validation_cases(config: OelConfig, cases: Sequence[Case], most: int) -> list[Case]:
    """At most `most` validation cases that the project's scorer can score.

    Raises:
        ConfigError: the project has no scorer, or there are none.
    """
    scorer = scorer_of(config.evaluate.cases)
    if scorer is None:
        raise ConfigError("knowledge is scored on validation cases, and nothing scores: set evaluate.cases.scorer")
    found = one_a_session(scorable(cases, scorer), "validation", most)
    if not found:
        raise ConfigError(
            "knowledge is scored on validation cases, and there are none that the scorer can score: raise "
            "evaluate.cases.validation, record feedback, or set knowledge.selection.use=all and "
            "knowledge.saturation.every=null"
        )
    return found


def unreliable(config: OelConfig, cases: Sequence[Case]) -> str:
    """Why scores may not choose among texts: a judge that was not shown to agree with people; empty if they may.

    Raises:
        ConfigError, PolicyError: as the scorer.
    """
    scorer = scorer_of(config.evaluate.cases)
    return agreement(scorer, cases).problem(config.evaluate.cases) if scorer is not None and scorer.is_judge else ""


def score_texts(
    config: OelConfig,
    policy: Policy,
    candidates: Sequence[Candidate],
    cases: Sequence[Case],
    round_index: int,
    path: Path,
    on_progress: Progress,
) -> dict[str, Score]:
    """Label → score of every candidate on these validation cases. Equal texts are evaluated once.

    Episodes are appended to `path` as they end; those that it already contains are not repeated.
    """
    labels = {candidate.text: candidate.label for candidate in reversed(candidates)}
    asked = [
        CaseInArm(f"r{round_index:02d}-validation-{label}-e{index:04d}", case, text)
        for text, label in sorted(labels.items(), key=lambda entry: entry[1])
        for index, case in enumerate(cases)
    ]
    settings, injection = config.evaluate.cases, config.knowledge.injection
    questions = case_questions(asked, scorer_of(settings), settings.sampling, config.seed, injection)
    done = recover_jsonl(path, Trajectory)
    count = len(done)
    with JsonlWriter(path) as writer:

        def on_episode(episode: Trajectory) -> None:
            nonlocal count
            writer.append(episode)
            count += 1
            on_progress(count, len(asked))

        episodes = questions.run(policy, done, on_episode)
    played: dict[str, list[Trajectory]] = {}
    for one, episode in zip(asked, episodes, strict=True):
        played.setdefault(one.knowledge, []).append(episode)
    return {candidate.label: score_of(policy, played[candidate.text]) for candidate in candidates}
