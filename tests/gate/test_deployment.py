"""What sessions of the deployment have to show before a candidate is let through."""

import random

import pytest

from oel_core.config.operation import DeploymentConfig
from oel_core.gate.deployment import by_canary, by_shadow
from oel_core.types import Feedback, Trajectory
from tests.builders import episode

CANARY = DeploymentConfig(use="canary", tolerance=0.1, level=0.05)
SHADOW = DeploymentConfig(use="shadow", tolerance=0.1, level=0.05)


def session(number: int, reward: float, *, at: float | None = None, rated: bool = True) -> Trajectory:
    """A session that ended at its number, with a score if it was rated."""
    given = (Feedback(source="human", score=reward),) if rated else ()
    base = episode(f"served-{number:05d}")
    turns = (*base.turns[:-1], base.turns[-1].model_copy(update={"given": given}))
    ended = float(number) if at is None else at
    return base.model_copy(update={"turns": turns, "reward": reward, "at": ended})


def dealt(rng: random.Random, count: int, champion: float, candidate: float) -> list[list[Trajectory]]:
    """Sessions of each version in one stream, a fifth of them the candidate's, with thumbs up at these rates."""
    found: list[list[Trajectory]] = [[], []]
    for number in range(count):
        side = rng.random() < 0.2
        rate = candidate if side else champion
        found[side].append(session(number, float(rng.random() < rate)))
    return found


def test_a_candidate_that_is_better_is_let_through_and_one_that_is_worse_is_not() -> None:
    better = by_canary(CANARY, *dealt(random.Random(1), 3000, 0.5, 0.7))
    assert better.enough
    assert better.difference == pytest.approx(0.2, abs=0.1)
    assert not by_canary(CANARY, *dealt(random.Random(2), 3000, 0.7, 0.5)).enough


def test_looking_after_every_session_lets_hardly_any_candidate_through_that_is_worse_by_the_tolerance() -> None:
    passed = 0
    for seed in range(100):
        champion, candidate = dealt(random.Random(seed), 400, 0.6, 0.5)
        looks = range(10, len(candidate), 10)
        passed += any(by_canary(CANARY, _until(champion, candidate[n - 1]), candidate[:n]).enough for n in looks)
    assert passed <= 14  # with a level of 0.05 more than 14 of 100 are rarer than 1 in 5,000


def _until(champion: list[Trajectory], last: Trajectory) -> list[Trajectory]:
    return [one for one in champion if (one.at or 0) <= (last.at or 0)]


def test_only_rated_sessions_since_the_first_canary_count() -> None:
    champion = [session(1, 0.0), session(12, 1.0), session(13, 0.0, rated=False)]
    found = by_canary(CANARY, champion, [session(10, 1.0), session(11, 0.0, rated=False)])
    assert (found.sessions, found.champion_sessions, found.entries, found.difference) == (1, 1, 1, 0.0)


def test_a_block_has_sessions_of_both_from_the_same_time() -> None:
    # the first champion session after the first canary closes a block; worked out by hand
    candidate = [session(1, 1.0), session(2, 0.0), session(5, 1.0)]
    champion = [session(3, 0.0), session(4, 1.0), session(6, 1.0)]
    found = by_canary(CANARY, champion, candidate)
    assert (found.entries, found.difference) == (2, pytest.approx(((0.5 - 0.0) + (1.0 - 1.0)) / 2))


def test_without_sessions_nothing_is_shown() -> None:
    assert not by_canary(CANARY, [session(1, 1.0)], []).enough
    assert not by_shadow(SHADOW, {}).enough


def test_shadow_answers_are_compared_in_pairs_and_a_session_counts_once() -> None:
    many = {f"s{number}": [(0.0, 1.0)] * 3 for number in range(40)}
    found = by_shadow(SHADOW, many)
    assert (found.sessions, found.entries, found.champion, found.candidate) == (40, 40, 0.0, 1.0)
    assert found.enough
    assert not by_shadow(SHADOW, dict(list(many.items())[:2])).enough, "two sessions, whatever they say, are few"
