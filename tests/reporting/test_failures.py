"""Kinds of lost episodes."""

import pytest

from oel_core.reporting.findings import failures as kinds
from oel_core.reporting.findings.failures import failure, failures
from oel_core.types import StopReason, Trajectory
from tests.builders import episode, turn

CUT = turn(stop_reason=StopReason.LENGTH, action=None)
INVALID, VALID = turn(action=None), turn()


def out_of_turns(*turns: object) -> Trajectory:
    lost = episode("e", turns=turns)  # type: ignore[arg-type]
    return lost.model_copy(update={"terminated": False, "truncated": True})


@pytest.mark.parametrize(
    ("lost", "kind"),
    [
        (episode("e"), kinds.ZERO),
        (episode("e", reward=0.5), kinds.PARTIAL),
        (episode("e", turns=[VALID, INVALID]), kinds.INVALID),
        (episode("e", turns=[INVALID, VALID]), kinds.ZERO),
        (episode("e", turns=[VALID, CUT]), kinds.CUT),
        (episode("e", turns=[turn(stop_reason=StopReason.LENGTH)]), kinds.ZERO),
        (out_of_turns(VALID, VALID), kinds.LIMIT),
        (out_of_turns(INVALID, VALID), kinds.LIMIT_INVALID),
        (out_of_turns(VALID, CUT), kinds.CUT),
        (episode("e", error="broke", reward=1.0), kinds.ERROR),
        (episode("e", turns=[]), kinds.ZERO),
        (episode("e", reward=1.0, turns=[INVALID]), None),
    ],
)
def test_every_lost_episode_has_one_kind(lost: Trajectory, kind: str | None) -> None:
    assert failure(lost) == kind


def test_kinds_are_counted_in_their_order_and_passed_episodes_left_out() -> None:
    found = failures([out_of_turns(VALID), episode("e"), episode("e"), episode("e", reward=1.0)])
    assert list(found.items()) == [(kinds.ZERO, 2), (kinds.LIMIT, 1)]
