"""A candidate beside the champion: which sessions it gets, what becomes of its answers, and when it gets no more."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oel_core.errors import PolicyError
from oel_core.projects.deployment import DEPLOYMENT, shadow_answers, withdrawn
from oel_core.projects.inbox import new_experience
from oel_core.serving.answering.base import ChatRequest
from oel_core.serving.answering.candidate import share_of
from oel_core.types import Message
from tests.serving.running import PROJECT, Player, Served, config_for, eventually, handed_over, playing, serving

ONE, TWO = f"{PROJECT}-one", f"{PROJECT}-two"


@pytest.fixture
def player() -> Iterator[Player]:
    with playing(Player()) as player:
        yield player


def trying(served: Served) -> Served:
    """With the candidate `two`."""
    served.registry[:] = ["one", "two"]
    eventually(lambda: served.http.get("/healthz").json()["candidate"] == TWO)
    return served


def versions(served: Served, sessions: range, **options: Any) -> dict[int, str]:
    """Who answered each session."""
    return {
        number: served.ask("hello", extra_headers={"X-OEL-Session": f"s-{number}"}, **options).system_fingerprint
        for number in sessions
    }


def test_a_session_stays_with_its_version_and_both_are_recorded_as_what_they_are(
    tmp_path: Path, player: Player
) -> None:
    config = config_for(tmp_path / "inbox", use="canary", candidate={"share": 0.5})
    with serving(config) as served:
        first = versions(trying(served), range(24))
        assert versions(served, range(24), stream=False) == first
        for version, role in ((ONE, "champion"), (TWO, "canary")):
            answers = sum(one == version for one in first.values())
            assert 4 < answers < 20
            assert served.metric(f'oel_answers_total{{role="{role}",version="{version}"}}') == 2 * answers
    with serving(config) as served:
        assert versions(trying(served), range(24)) == first, "a restart dealt the sessions anew"
    found = handed_over(tmp_path / "inbox")
    assert {episode.policy for episode in found} == {ONE, TWO}
    for episode in found:
        assert all(turn.response.startswith(episode.policy.removeprefix(f"{PROJECT}-")) for turn in episode.turns)


def test_a_conversation_that_changes_its_version_is_two_episodes(tmp_path: Path, player: Player) -> None:
    talk: list[Any] = [{"role": "user", "content": "a"}]
    with serving(config_for(tmp_path / "inbox")) as served:
        served.ask("", messages=talk)
        served.registry[0] = "two"
        eventually(lambda: served.http.get("/healthz").json()["version"] == TWO)
        talk += [{"role": "assistant", "content": "one: a"}, {"role": "user", "content": "b"}]
        served.ask("", messages=talk)
    assert [(one.policy, len(one.turns)) for one in handed_over(tmp_path / "inbox")] == [(ONE, 1), (TWO, 1)]


@pytest.mark.parametrize("stream", [False, True])
def test_a_candidate_that_fails_costs_nobody_an_answer_and_is_withdrawn_for_good(
    tmp_path: Path, player: Player, stream: bool
) -> None:
    def say(messages: tuple[Message, ...], path: str) -> str:
        if path == "two":
            raise PolicyError("these weights are broken")
        return f"{path}: {messages[-1].content}"

    player.say = say
    config = config_for(tmp_path / "inbox", use="canary", candidate={"share": 1.0, "most_failures": 3})
    with serving(config) as served:
        trying(served)
        for number in range(5):
            answer = served.ask(f"n{number}", stream=stream)
            got = {part.system_fingerprint for part in answer} if stream else {answer.system_fingerprint}
            assert got == {ONE}
        assert served.metric("oel_candidate_failures_total") == 3
        assert served.metric("oel_candidates_withdrawn_total") == 1
        assert served.http.get("/healthz").json()["candidate"] is None
        eventually(lambda: player.closed == ["two"])
    assert "these weights are broken" in withdrawn(tmp_path / "inbox")[TWO].reason
    loaded = len(player.loaded)
    with serving(config) as served:
        served.registry[:] = ["one", "two"]
        served.registry[:] = ["one", "three"]
        eventually(lambda: served.http.get("/healthz").json()["candidate"] == f"{PROJECT}-three")
        assert "two" not in player.loaded[loaded:]
    assert {episode.policy for episode in handed_over(tmp_path / "inbox")} == {ONE}


def test_what_both_versions_fail_is_not_the_candidates_fault(tmp_path: Path, player: Player) -> None:
    def say(messages: tuple[Message, ...], path: str) -> str:
        raise PolicyError("no memory")

    player.say = say
    config = config_for(tmp_path / "inbox", use="canary", candidate={"share": 1.0, "most_failures": 1})
    with serving(config) as served:
        trying(served)
        for _ in range(3):
            with pytest.raises(openai.InternalServerError):
                served.ask("hello")
        assert served.metric("oel_candidate_failures_total") == 0
        assert served.http.get("/healthz").json()["candidate"] == TWO


def test_a_candidate_that_is_promoted_is_not_loaded_again(tmp_path: Path, player: Player) -> None:
    with serving(config_for(tmp_path / "inbox", use="canary")) as served:
        trying(served)
        served.registry[:] = ["two"]
        eventually(lambda: served.ask("hello").system_fingerprint == TWO)
        assert served.http.get("/healthz").json() == {
            "status": "ok",
            "version": TWO,
            "candidate": None,
            "recorder": "ok",
        }
        eventually(lambda: player.closed == ["one"])
    assert player.loaded == ["one", "two"]


def test_a_shadow_answer_is_recorded_and_neither_sent_nor_learned_from(tmp_path: Path, player: Player) -> None:
    inbox = tmp_path / "inbox"
    with serving(config_for(inbox, use="shadow", candidate={"share": 1.0})) as served:
        trying(served)
        answer = served.ask("I am ann@example.org", extra_headers={"X-OEL-Session": "s-1"})
        assert answer.system_fingerprint == ONE
        assert answer.choices[0].message.content == "one: I am ann@example.org"
        eventually(lambda: served.metric(f'oel_answers_total{{role="shadow",version="{TWO}"}}') == 1)
    (episode,) = handed_over(inbox)
    (shadow,) = shadow_answers(inbox)
    assert (shadow.episode, shadow.turn, shadow.candidate) == (episode.id, 0, TWO)
    assert shadow.response.startswith("two: I am <email-")
    assert [one.episode.policy for one in new_experience(inbox, {}, "lake").received] == [ONE]
    assert handed_over(inbox) == [episode]
    assert len(list((inbox / DEPLOYMENT).glob("shadow-*"))) == len(shadow_answers(inbox)) == 1


def test_a_shadow_request_keeps_no_user_waiting_and_gives_way(tmp_path: Path, player: Player) -> None:
    began, end = threading.Event(), threading.Event()

    def say(messages: tuple[Message, ...], path: str) -> str:
        if path == "two":
            began.set()
            assert end.wait(60)
        return f"{path}: {messages[-1].content}"

    player.say = say
    config = config_for(tmp_path / "inbox", use="shadow", candidate={"share": 1.0, "waiting": 2})
    with serving(config) as served:
        trying(served)
        served.ask("first")
        assert began.wait(60)
        for number in range(12):  # the candidate answers nothing meanwhile
            assert served.ask(f"n{number}").choices[0].message.content == f"one: n{number}"
        eventually(lambda: served.metric("oel_shadows_left_out_total") >= 1)
        end.set()
        eventually(lambda: served.metric(f'oel_answers_total{{role="shadow",version="{TWO}"}}') >= 1)
    assert {episode.policy for episode in handed_over(tmp_path / "inbox")} == {ONE}


def request(session: str = "", user: str = "", *texts: str) -> ChatRequest:
    said = [{"role": "user", "content": text} for text in texts]
    return ChatRequest({"messages": said}, "m", (), session=session, user=user)


@given(st.text(max_size=8), st.text(max_size=8), st.lists(st.text(max_size=8), min_size=1, max_size=4))
def test_a_share_is_the_sessions_own(session: str, user: str, texts: list[str]) -> None:
    whole = share_of("v", request(session, user, *texts))
    assert 0 <= whole <= 1
    assert share_of("v", request(session, user, texts[0])) == whole, "a later request of the conversation moved it"
    if session:
        assert share_of("v", request(session, "other", "other")) == whole


def test_shares_are_spread_evenly_and_anew_for_each_candidate() -> None:
    shares = [share_of("a", request(f"s-{number}")) for number in range(2000)]
    others = [share_of("b", request(f"s-{number}")) for number in range(2000)]
    assert 900 < sum(one < 0.5 for one in shares) < 1100  # 4.5 standard deviations
    assert 900 < sum((one < 0.5) == (other < 0.5) for one, other in zip(shares, others, strict=True)) < 1100
