"""Progress lines in a flow run's log."""

import json
import logging
from pathlib import Path

import pytest

from flows.pages.progress_lines import ProgressLines
from flows.pages.time_left import RoundTime, duration, stage_left
from tests.runs_on_disk import begin_stage, finished_run


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
        "round 1: play episodes: 31 of 100 (about 1 min left)",
        "round 1: play episodes: 61 of 100 (about 39 s left)",
        "round 1: play episodes: 91 of 100 (about 9 s left)",
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


def test_a_stage_that_was_gone_on_with_is_not_taken_for_a_fast_one() -> None:
    assert stage_left(10.0, 90, 95, 100) == 10.0
    assert stage_left(10.0, 95, 95, 100) is None
    assert stage_left(10.0, 0, 100, 100) is None


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min"), (3570, "1 h 00 min"), (5400, "1 h 30 min")]
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_the_round_takes_what_the_stages_of_the_round_before_took_that_it_still_lacks(tmp_path: Path) -> None:
    run = finished_run(tmp_path, "lake", rounds=1)
    left = RoundTime(run)
    assert left(0.0) is None, "there is no earlier round"
    for stage, seconds in (("distill", 100.0), ("evaluate/held_out", 40.0)):
        path = run.stage_path(1, stage) / "manifest.json"
        values = json.loads(path.read_text())
        path.write_text(json.dumps(values | {"counts": {"seconds": seconds}}))
    begin_stage(run, 2, "distill")
    assert left(30.0) == 110.0
    assert left(1000.0) == 0.0
    lines: list[str] = []
    clock = Clock()
    show = ProgressLines(lines.append, between_s=30, clock=clock, left=left)
    show("round 2: distil", 0, 10)
    clock.now = 30.0
    show("round 2: distil", 5, 10)
    show("round 2: distil", 10, 10)
    assert lines == [
        "round 2: distil (the round about 2 min)",
        "round 2: distil: 5 of 10 (about 30 s left; the round about 2 min)",
        "round 2: distil: 10 of 10",
    ]
