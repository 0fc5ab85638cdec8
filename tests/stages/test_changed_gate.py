"""The gate after the environment has changed: both models are measured in the environment of the candidate's round.

Two rounds by the old rules, a third by new ones: the corridor is longer. What was learned before does not help there.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from oel_core import envs
from oel_core.config.run import OelConfig, parse_config
from oel_core.errors import ArtifactError
from oel_core.evaluation.base import OnEpisode, ignore, summarise
from oel_core.gate.ledger import read_ledger
from oel_core.policies.base import Policy, Request
from oel_core.rounds.context import EPISODES
from oel_core.rounds.outcomes import read_episodes
from oel_core.rounds.round import Round
from oel_core.runs.folder import RunFolder, open_run
from oel_core.runs.jsonl import read_jsonl
from oel_core.runs.round_start import RoundStart, write_start
from oel_core.stages.evaluate import evaluate, own_parts
from oel_core.stages.gate import STAGE, gate, read_verdict, verdict_against
from oel_core.types import EvalReport, Message, Trajectory
from tests.builders import episode
from tests.stages.test_trial import Killed, Models, played, train

OLD, NEW = "_@_", "_@__"
MODELS = {0: (50, 50), 1: (95, 50), 2: (50, 95)}
"""Round → percent of moves to the right by the old rules, and by the new ones."""
NEWEST = 2


class Quiz:
    """40 fixed questions about the corridor of the run; a model is right where it would go to the right."""

    name, total = "quiz", 40

    def __init__(self, options: Mapping[str, Any], config: OelConfig) -> None:
        self._size = int(config.environment.options["size"])
        self._max = config.evaluate.games.sampling

    def run(self, policy: Policy, *, done: Sequence[Trajectory] = (), on_episode: OnEpisode = ignore) -> EvalReport:
        found = {one.id: one for one in done}
        for number in reversed(range(self.total)):  # recorded in another order than asked in
            if f"q{number}" in found:
                continue
            asked = Message(role="user", content="_@" + "_" * (self._size - 2))
            (answer,) = policy.generate([Request((asked,), number)], self._max)
            made = episode(f"q{number}", answers=[answer.text], reward=float("right" in answer.text), seed=number)
            found[made.id] = made
            on_episode(made)
        return summarise(self.name, policy.name, list(found.values()))


def config(test: str = "sequential", **ood: object) -> OelConfig:
    return parse_config(
        {
            "environment": {
                "name": "corridor",
                "options": {"size": len(OLD)},
                "max_turns": 3,
                "changes": [{"round": NEWEST, "options": {"size": len(NEW)}}],
            },
            "evaluate": {"games": {"episodes": 32, "sampling": {"max_tokens": 64}}, "ood": ood},
            "gate": {
                "test": test,
                "ood_tolerance": 0.3,
                "sequential": {"block_episodes": 16, "most_episodes": 160},
            },
        },
        "test",
    )


QUIZ = {"quiz": {"suite": "tests.stages.test_changed_gate:Quiz"}}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """Rounds 0 to 2, each evaluated by its own rules; round 1 is the champion."""
    monkeypatch.setitem(envs.REGISTRY, "corridor", "tests.stages.test_trial:Rightward")
    found = open_run(tmp_path, "run")
    for number in range(NEWEST + 1):
        if number:
            write_start(found, number, RoundStart(parent=number - 1, knowledge=None, trigger=f"t{number}"))
            train(found, number)
        evaluated(found, number, config())
    return found


def evaluated(run: RunFolder, number: int, settings: OelConfig) -> None:
    for part in own_parts(settings):
        evaluate(Round(settings, run, number), part, Models(MODELS).context)


def worlds(episodes: Sequence[Trajectory]) -> set[str]:
    return {one.turns[0].messages[-1].content for one in episodes}


def test_a_model_that_learned_the_new_rules_replaces_one_that_was_better_by_the_old_ones(run: RunFolder) -> None:
    gate(Round(config(), run, NEWEST), Models(MODELS).context)
    found = read_verdict(run, NEWEST)
    before = read_episodes(run.stage_path(1, "evaluate/held_out"))
    assert sum(one.passed for one in before) / 32 > 0.8, "as the champion was measured, no candidate would pass"
    assert found.promote
    assert found.held_out.first < 0.7 < found.held_out.second
    assert worlds(played(run, "held_out", 1)) == worlds(played(run, "held_out", 2)) == {NEW}


def test_a_model_that_learned_nothing_new_is_not_promoted_for_what_it_knew(run: RunFolder) -> None:
    """By the old rules it is better than the base model, by the new ones it is not."""
    models = Models({**MODELS, 2: (95, 50)})
    gate(Round(config(), run, NEWEST), models.context)
    assert not read_verdict(run, NEWEST).promote
    assert read_ledger(run).trials[0].promoted is False


def test_fixed_questions_are_answered_again_by_whoever_answered_them_by_old_rules(run: RunFolder) -> None:
    settings = config(**QUIZ)
    for number in range(NEWEST + 1):
        evaluated(run, number, settings)
    gate(Round(settings, run, NEWEST), Models(MODELS).context)
    folder = run.stage_path(NEWEST, STAGE) / "ood/quiz"
    assert sorted(path.name for path in folder.iterdir()) == ["round_00", "round_01"]
    again = list(read_jsonl(folder / "round_01" / EPISODES, Trajectory))
    recorded = list(read_episodes(run.stage_path(1, "evaluate/ood/quiz")))
    assert sum(one.passed for one in again) < 30 < sum(one.passed for one in recorded)
    base = list(read_jsonl(folder / "round_00" / EPISODES, Trajectory))
    best = max(sum(one.passed for one in answered) for answered in (again, base))
    assert read_verdict(run, NEWEST).ood["quiz"].first == best / 40


def test_their_evaluations_count_where_nothing_changed(run: RunFolder) -> None:
    settings = config(**QUIZ).at_round(NEWEST)
    for number in (3, 4):
        write_start(run, number, RoundStart(parent=number - 1, knowledge=None, trigger=f"t{number}"))
        train(run, number)
        evaluated(run, number, settings)
    evaluate(Round(settings, run, 0), "ood/quiz", Models(MODELS).context)
    models = Models({**MODELS, 3: (50, 50), 4: (50, 95)})
    gate(Round(settings, run, 4), models.context)
    found = read_verdict(run, 4)
    assert found.ood["quiz"].episodes == 40
    assert not (run.stage_path(4, STAGE) / "ood").exists()


def test_a_kill_while_they_are_answered_again_answers_none_twice(run: RunFolder) -> None:
    settings = config(**QUIZ)
    for number in range(NEWEST + 1):
        evaluated(run, number, settings)
    whole = Models(MODELS)
    last = 20  # answers before its end: among those of the last baseline
    gate(Round(settings, run, NEWEST), whole.context)
    verdict = read_verdict(run, NEWEST)
    run.stage_path(NEWEST, STAGE).rename(run.path / "before")
    (run.path / "gate_trials.json").unlink()
    with pytest.raises(Killed):
        gate(Round(settings, run, NEWEST), Models(MODELS, dies_at=whole.answers - last).context)
    again = Models(MODELS)
    gate(Round(settings, run, NEWEST), again.context)
    assert read_verdict(run, NEWEST) == verdict
    assert again.answers == last


def test_the_bootstrap_says_that_it_cannot_compare_and_what_can(run: RunFolder) -> None:
    with pytest.raises(ArtifactError, match=r"(?s)environment changed between rounds 1 and 2.*size.*sequential"):
        gate(Round(config("bootstrap"), run, NEWEST), Models(MODELS).context)


def test_a_model_of_the_old_environment_is_no_candidate_any_more(run: RunFolder) -> None:
    """Its own gate has let it through, but by the old rules."""
    gate(Round(config(), run, 1), Models(MODELS).context)
    assert read_verdict(run, 1).promote
    with pytest.raises(ArtifactError, match=r"has changed since round 1 .* promote a later round"):
        verdict_against(Round(config(), run, 1), 0, Models(MODELS).context)
    assert verdict_against(Round(config(), run, NEWEST), 0, Models(MODELS).context).promote
