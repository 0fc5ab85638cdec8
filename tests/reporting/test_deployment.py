"""A deployment's sessions over time and by version, from the inbox."""

from pathlib import Path

import pytest

from oel_core.config.run import parse_config
from oel_core.health.alarms import Finding, new_alarms, note_alarms
from oel_core.reporting.findings.deployment import HOUR, MINUTE, Span, by_version, deployment_chart, spans
from oel_core.reporting.page.render import render
from oel_core.runs.folder import adopt_config, open_run
from oel_core.runs.jsonl import jsonl_bytes
from oel_core.types import Feedback, Trajectory
from tests.cases.sessions import people, session

BEGIN = 1_800_000_000.0 // HOUR * HOUR


def visit(version: str, at: float | None, *given: Feedback) -> Trajectory:
    found = session("e", ("Close A1", "No."), ("Now?", "It is closed."), given=given)
    return found.model_copy(update={"policy": version, "at": at})


UP, DOWN, FIXED = people(thumbs=True), people(thumbs=False), people(correction="It is open.")


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    first = [visit("shop-1", BEGIN + 1, UP), visit("shop-1", BEGIN + 59, DOWN), visit("shop-1", BEGIN + 61)]
    later = [visit("shop-2<b>", BEGIN + 70, UP), visit("shop-2<b>", BEGIN + 80, FIXED), visit("shop-2<b>", None, UP)]
    (folder / "a.jsonl").write_bytes(jsonl_bytes(first))
    (folder / "b.jsonl").write_bytes(b'{"no": "episode"}\n' + jsonl_bytes(later) + b'{"torn')
    return folder


def test_sessions_are_counted_by_minute_and_version(inbox: Path) -> None:
    """A correction without a vote calls an answer wrong; where nobody said anything it is neither."""
    assert spans(inbox) == [
        Span("shop-1", BEGIN, 2, 2, 1),
        Span("shop-1", BEGIN + MINUTE, 1, 0, 0),
        Span("shop-2<b>", BEGIN + MINUTE, 2, 2, 1),
    ]
    assert by_version(spans(inbox)) == [Span("shop-1", BEGIN, 3, 2, 1), Span("shop-2<b>", BEGIN + MINUTE, 2, 2, 1)]


def test_what_was_replaced_and_what_a_judge_says_is_not_peoples_word(tmp_path: Path) -> None:
    judged = UP.model_copy(update={"source": "judge"})
    replaced = UP.model_copy(update={"superseded": True})
    (tmp_path / "a.jsonl").write_bytes(jsonl_bytes([visit("v", BEGIN, judged), visit("v", BEGIN, replaced, DOWN)]))
    assert spans(tmp_path) == [Span("v", BEGIN, 2, 1, 0)]


def test_a_chart_has_a_line_for_each_version_and_spans_that_fit() -> None:
    """Ten hours in minutes would be 600 points."""
    found = [Span("one" if n < 300 else "two", BEGIN + n * MINUTE, 1, 1, n % 2) for n in range(600)]
    chart = deployment_chart(found)
    assert chart is not None
    assert [line.name for line in chart.series] == ["one", "two"]
    assert [len(line.points) for line in chart.series] == [20, 20]
    assert "by 15 minutes" in chart.title
    assert chart.x_label == "minutes since the first session"
    first = chart.series[0].points[0]
    assert (first.x, first.y) == (7.5, 7 / 15)
    assert first.low is not None
    assert first.high is not None
    assert first.low < first.y < first.high


def test_there_is_no_chart_without_a_rated_session() -> None:
    assert deployment_chart([]) is None
    assert deployment_chart([Span("v", BEGIN, 3, 0, 0)]) is None


def test_the_report_has_versions_and_escapes_their_names(inbox: Path, tmp_path: Path) -> None:
    values = {"environment": {"name": "recorded"}, "experience": {"inbox": str(inbox)}}
    run = open_run(tmp_path, "shop")
    adopt_config(run, parse_config(values, "test"))
    page = render(run)
    assert '<h2 id="deployment">' in page
    assert "shop-2&lt;b&gt;" in page
    assert "shop-2<b>" not in page
    assert "50.0%" in page


def test_the_report_says_nothing_of_a_deployment_that_nobody_rated(tmp_path: Path) -> None:
    run = open_run(tmp_path, "shop")
    adopt_config(run, parse_config({"experience": {"inbox": str(tmp_path / "none")}}, "test"))
    assert 'id="deployment"' not in render(run)


def test_the_page_names_alarms_that_hold(tmp_path: Path) -> None:
    run = open_run(tmp_path, "shop")
    adopt_config(run, parse_config({}, "test"))
    assert 'id="alarms"' not in render(run)
    found = [Finding(name="champion", alarm=True, text="it is <b>worse")]
    note_alarms(run, found, "2", new_alarms(run, found, "2"))
    page = render(run)
    assert 'id="alarms"' in page
    assert "it is &lt;b&gt;worse" in page
