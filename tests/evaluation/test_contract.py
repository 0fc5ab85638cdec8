"""What every registered suite must do."""

from typing import Any

import pytest

from oel_core.cases.frozen import write_cases
from oel_core.errors import ArtifactError, ConfigError
from oel_core.evaluation import Suite, make_suite, suite_names
from oel_core.evaluation.harness import lm_eval as lm_harness
from oel_core.testing import check_suite
from oel_core.types import EvalReport, Trajectory
from tests.cases.sessions import case
from tests.evaluation.ifeval_data import fake_checks
from tests.evaluation.players import small_config, wanderer

KNOWLEDGE = ("SECRET one", "SECRET two", "SECRET three")
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "games": ("games", {"episodes": 10}),
    "games in context": ("games", {"episodes": 10, "arm": "in_context", "texts": KNOWLEDGE}),
    "games raw": ("games", {"episodes": 10, "arm": "raw", "texts": KNOWLEDGE}),
    "other_symbols": ("other_symbols", {"episodes": 10}),
    "swapped_roles": ("swapped_roles", {"episodes": 10}),
    "other_relics": ("other_relics", {"episodes": 10, "world": {"curses": 1, "key": False}}),
    "ifeval": ("ifeval", {"subset": 10}),
    "python_code": ("python_code", {"episodes": 10}),
    "tools": ("tools", {"episodes": 10}),
    "other_tool": ("other_tool", {"episodes": 10, "world": {"surface": "json"}}),
    "cases": ("cases", {"scorer": "normalised"}),
    "cross_game": ("cross_game", {"episodes": 10, "environment": "lake", "options": {"size": 4}}),
}


@pytest.fixture(autouse=True)
def _checks_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_checks(monkeypatch)


@pytest.fixture(params=CASES)
def suite(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Suite:
    name, options = CASES[request.param]
    if name == "other_relics":  # its games are compiled once for all tests here
        monkeypatch.setenv("OEL_CACHE", str(tmp_path_factory.getbasetemp() / "oel-cache"))
    if name == "ifeval":
        options = {**options, "data": str(request.getfixturevalue("prompts_file"))}
    if name == "cases":
        path = request.getfixturevalue("tmp_path") / "cases.jsonl"
        write_cases(path, [case(number, "up", "left") for number in range(10)])
        options = {**options, "file": str(path)}
    return make_suite(name, options, small_config())


def test_every_registered_suite_is_tested_here() -> None:
    assert {name for name, _ in CASES.values()} == set(suite_names())


def play(suite: Suite, done: list[Trajectory] | None = None) -> tuple[EvalReport, list[Trajectory]]:
    played: list[Trajectory] = []
    report = suite.run(wanderer(), done=done or [], on_episode=played.append)
    return report, played


def test_the_shipped_suites_keep_the_contract(suite: Suite) -> None:
    check_suite(suite, wanderer())


def test_reports_count_layouts_and_tokens(suite: Suite) -> None:
    report, played = play(suite)
    assert suite.total == len(played) == 10
    assert 1 <= report.layouts <= 10
    assert 0 < report.response_tokens <= report.trajectory_tokens
    assert EvalReport.model_validate_json(report.model_dump_json()) == report


def test_records_never_hold_the_knowledge(suite: Suite) -> None:
    _, played = play(suite)
    for episode in played:
        for turn in episode.turns:
            assert not any("SECRET" in message.content or "Knowledge" in message.content for message in turn.messages)


@pytest.mark.parametrize("kept", [0, 1, 9, 10])
def test_goes_on_where_it_was_killed(suite: Suite, kept: int) -> None:
    report, played = play(suite)
    again, rest = play(suite, played[:kept])
    assert again == report
    assert [episode.id for episode in rest] == [episode.id for episode in played[kept:]]
    without_time = {"turns": {"__all__": {"wall_s"}}}
    assert [e.model_dump(exclude=without_time) for e in rest] == [
        e.model_dump(exclude=without_time) for e in played[kept:]
    ]


def test_episodes_of_something_else_are_refused(suite: Suite) -> None:
    _, played = play(suite)
    foreign = played[0].model_copy(update={"seed": played[0].seed + 1})
    with pytest.raises(ArtifactError, match=f"episode {foreign.id} .* is none of this suite's"):
        play(suite, [foreign])


@pytest.mark.parametrize("name", suite_names())
@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"episode": 3}, "episode: no such setting: did you mean episodes"),
        ({"episodes": 0}, "episodes: .*greater"),
        ({"episodes": "x"}, "episodes: "),
        ({"episodes": True}, "episodes: .*got true"),
    ],
)
def test_wrong_options_are_named(name: str, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s)^suite {name}.*: {problem}"):
        make_suite(name, options, small_config())


def test_an_unknown_suite_names_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lm_harness, "installed", lambda: False)
    with pytest.raises(ConfigError, match=r"unknown evaluation suite 'other_symbol': did you mean other_symbols"):
        make_suite("other_symbol", {}, small_config())
    known = "games, other_symbols, swapped_roles, other_relics, ifeval, python_code"
    with pytest.raises(ConfigError, match=rf"registered are {known}, .*oel\[lm-eval\]"):
        make_suite("zzz", {}, small_config())
