"""Progress in a flow run's log: enough to watch, not so much that it buries."""

import logging

import pytest

from flows.progress_lines import ProgressLines


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_stage_says_that_it_starts_how_far_it_is_and_that_it_is_done(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "watched")
    clock = Clock()
    show = ProgressLines(logging.getLogger("watched").info, between_s=30, clock=clock)
    for done in range(1, 101):
        clock.now += 1
        show("round 1: play episodes", done, 100)
    show("round 1: merge knowledge", 0, 2)
    show("round 1: merge knowledge", 2, 2)
    assert caplog.messages == [
        "round 1: play episodes",
        "round 1: play episodes: 31 of 100",
        "round 1: play episodes: 61 of 100",
        "round 1: play episodes: 91 of 100",
        "round 1: play episodes: 100 of 100",
        "round 1: merge knowledge",
        "round 1: merge knowledge: 2 of 2",
    ]


def test_a_stage_that_does_not_know_how_much_there_is_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "watched")
    clock = Clock()
    show = ProgressLines(logging.getLogger("watched").info, between_s=30, clock=clock)
    show("evaluate", 1, 0)
    clock.now = 40
    show("evaluate", 2, 0)
    assert caplog.messages == ["evaluate", "evaluate: 2 of ?"]
