"""Another champion takes over while requests are answered: none is lost, each ends on the version that began it."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.serving.running import PROJECT, Player, config_for, eventually, handed_over, playing, serving


@pytest.fixture
def player() -> Iterator[Player]:
    with playing(Player()) as player:
        yield player


def version(path: str) -> str:
    return f"{PROJECT}-{path}"


def test_a_request_that_runs_ends_on_the_old_version_and_a_new_one_goes_to_the_new(
    tmp_path: Path, player: Player
) -> None:
    player.hold = threading.Event()
    with serving(config_for(tmp_path / "inbox")) as served, ThreadPoolExecutor(1) as pool:
        running = pool.submit(served.ask, "first")
        eventually(lambda: player.asked)
        served.registry[0] = "two"
        eventually(lambda: served.http.get("/healthz").json()["version"] == version("two"))
        assert player.closed == [], "the old version was closed while it was answering"
        new = pool.submit(served.ask, "second")
        player.hold.set()
        old = running.result(60)
        assert (old.choices[0].message.content, old.system_fingerprint) == ("one: first", version("one"))
        later = new.result(60)
        assert (later.choices[0].message.content, later.system_fingerprint) == ("two: second", version("two"))
        eventually(lambda: player.closed == ["one"])
        assert served.metric(f'oel_champion{{version="{version("two")}"}}') == 1
        assert served.metric(f'oel_champion{{version="{version("one")}"}}') == 0
    assert [episode.policy for episode in handed_over(tmp_path / "inbox")] == [version("one"), version("two")]


def test_under_traffic_no_request_is_lost_and_no_answer_is_of_another_version_than_it_says(
    tmp_path: Path, player: Player
) -> None:
    with serving(config_for(tmp_path / "inbox")) as served, ThreadPoolExecutor(8) as pool:
        asked = []
        for number in range(60):
            asked.append(pool.submit(served.ask, f"n{number}"))
            if number % 15 == 14:  # promotions, and a rollback to the first
                asked[number - 14].result(60)  # the version has answered, however slow the clients are
                path = ["two", "three", "one", "two"][number // 15]
                served.registry[0] = path
                eventually(lambda path=path: served.http.get("/healthz").json()["version"] == version(path))
        answers = [one.result(60) for one in asked]
    for number, answer in enumerate(answers):
        path, _, said = answer.choices[0].message.content.partition(": ")
        assert said == f"n{number}"
        assert answer.system_fingerprint == version(path)
    assert {answer.system_fingerprint for answer in answers} >= {version("one"), version("two"), version("three")}
    found = handed_over(tmp_path / "inbox")
    assert sorted(episode.turns[0].response for episode in found) == sorted(
        answer.choices[0].message.content for answer in answers
    )
    assert all(episode.policy == version(episode.turns[0].response.partition(":")[0]) for episode in found)


@pytest.mark.parametrize("trouble", ["broken", "unreachable"])
def test_a_champion_that_cannot_be_loaded_leaves_the_old_one_answering(
    tmp_path: Path, player: Player, trouble: str
) -> None:
    with serving(config_for(tmp_path / "inbox")) as served:
        served.registry[0] = trouble
        eventually(lambda: served.metric("oel_champion_failures_total") >= 1)
        assert served.ask("hello").system_fingerprint == version("one")
        served.registry[0] = "two"
        eventually(lambda: served.ask("hello").system_fingerprint == version("two"))
