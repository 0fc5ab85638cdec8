"""The error budget: the sum of its levels, and that a kill neither loses a trial nor counts it twice."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oel_core.errors import ArtifactError
from oel_core.gate.ledger import TRIALS, close_trial, level, open_trial, read_ledger
from oel_core.runs.folder import RunFolder

BUDGET = 0.05
DIGEST = "d1"


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "project")


def decide(run: RunFolder, candidate: int, promoted: bool) -> None:
    trial = open_trial(run, candidate, DIGEST, 0, BUDGET)
    close_trial(run, trial, promoted=promoted, evidence=1.5, episodes=64)


def killed(work: Callable[[], object], write: int) -> bool:
    """Whether a process that is killed before its `write`-th rename or flush to the disk (from 0) got that far."""
    process = multiprocessing.get_context("fork").Process(target=_die_at, args=(work, write))
    process.start()
    process.join()
    return process.exitcode == -signal.SIGKILL


def _die_at(work: Callable[[], object], write: int) -> None:
    left = [write]

    def counted(plain: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return plain(*arguments)

        return call

    os.replace, os.fsync = counted(os.replace), counted(os.fsync)
    work()


@given(st.lists(st.booleans(), max_size=200), st.floats(0.001, 0.5))
def test_levels_add_up_to_no_more_than_the_budget_of_every_promotion(decisions: list[bool], budget: float) -> None:
    """Which is the whole proof that the expected number of false promotions keeps to the budget."""
    promoted: list[int] = []
    spent = 0.0
    for number, one in enumerate(decisions, start=1):
        now = level(number, promoted, budget)
        spent += now
        promoted += [number] * one
        assert 0 < now < 1
        assert spent < budget * (max(1, len(promoted)) if promoted else 0.5)


def test_a_promotion_makes_the_next_ones_easier() -> None:
    assert [level(number, [], 0.06) for number in (1, 2, 3)] == pytest.approx([0.015, 0.005, 0.0025])
    assert level(3, [2], 0.06) == pytest.approx(0.0025 + 0.015)
    assert level(4, [2, 3], 0.06) == pytest.approx(0.0015 + 0.005 + 0.03)


def test_a_trial_gets_its_level_before_it_is_decided_and_promotions_give_some_back(run: RunFolder) -> None:
    first = open_trial(run, 1, DIGEST, 0, BUDGET)
    assert (first.number, first.level, first.promoted) == (1, BUDGET / 4, None)
    close_trial(run, first, promoted=True, evidence=4.0, episodes=96)
    second = open_trial(run, 2, DIGEST, 1, BUDGET)
    assert (second.number, second.promotions) == (2, 1)
    assert second.level == level(2, [1], BUDGET)
    assert read_ledger(run).next_level(BUDGET) == level(3, [1], BUDGET)  # the second is open, and counted


def test_the_same_trial_is_counted_once_and_another_champion_makes_another(run: RunFolder) -> None:
    assert open_trial(run, 3, DIGEST, 0, BUDGET) == open_trial(run, 3, DIGEST, 0, BUDGET / 2)
    assert open_trial(run, 3, DIGEST, 2, BUDGET).number == 2
    assert open_trial(run, 3, "trained again", 0, BUDGET).number == 3
    assert [trial.champion for trial in read_ledger(run).trials] == [0, 2, 0]


def test_what_was_decided_stays(run: RunFolder) -> None:
    trial = open_trial(run, 1, DIGEST, 0, BUDGET)
    closed = close_trial(run, trial, promoted=False, evidence=0.1, episodes=64)
    assert close_trial(run, trial, promoted=False, evidence=0.1000001, episodes=64) == closed
    with pytest.raises(ArtifactError, match="decided the other way"):
        close_trial(run, trial, promoted=True, evidence=0.1, episodes=64)


def test_a_damaged_file_is_an_error_and_not_a_new_budget(run: RunFolder) -> None:
    decide(run, 1, False)
    path = run.path / TRIALS
    path.write_text(path.read_text()[:-20])
    with pytest.raises(ArtifactError, match=r"gate_trials\.json cannot be read: restore it"):
        open_trial(run, 2, DIGEST, 0, BUDGET)


def test_a_removed_trial_is_noticed(run: RunFolder) -> None:
    for candidate in (1, 2):
        decide(run, candidate, False)
    ledger = read_ledger(run)
    (run.path / TRIALS).write_text(ledger.model_copy(update={"trials": ledger.trials[1:]}).model_dump_json())
    with pytest.raises(ArtifactError, match="not numbered"):
        read_ledger(run)


def test_a_kill_at_any_write_loses_no_trial_and_counts_none_twice(run: RunFolder) -> None:
    decide(run, 1, False)
    deaths = 0
    for promoted in (False, True):
        for write in range(8):
            candidate = len(read_ledger(run).trials) + 1
            deaths += killed(partial(decide, run, candidate, promoted), write)
            seen = read_ledger(run).find(candidate, DIGEST, 0)  # what the killed process had left
            decide(run, candidate, promoted)
            ledger = read_ledger(run)
            assert len(ledger.trials) == candidate
            assert seen is None or ledger.trials[-1].level == seen.level
            assert ledger.trials[-1].promoted is promoted
    assert deaths == 2 * 6, "two files written: each flushes the file, renames it and flushes the folder"


def test_an_interrupted_trial_has_used_its_share(run: RunFolder) -> None:
    open_trial(run, 1, DIGEST, 0, BUDGET)
    assert open_trial(run, 2, DIGEST, 0, BUDGET).level == level(2, [], BUDGET)
