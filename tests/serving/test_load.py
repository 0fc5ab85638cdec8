"""Many sessions at once while gateway, model's server and champion are killed and exchanged at random."""

import asyncio
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from oel_core.imports.privacy import Masking, salt_of
from oel_core.types import Trajectory, Turn
from tests.serving.load import TURNS, Deployment, Sessions, served_name
from tests.serving.running import handed_over

SETTLE_S = 120.0
"""The longest wait for answers after the last disturbance, one of them of a champion that was exchanged."""


async def _disturbed(deployment: Deployment, sessions: Sessions, count: int, seconds: float, pause_s: float) -> None:
    """Runs the sessions for so long and disturbs what they talk to, in a thread, every `pause_s` on average."""
    talking = asyncio.create_task(sessions.run(count))
    until = time.monotonic() + seconds
    try:
        while time.monotonic() < until or min(deployment.kills.values()) == 0:
            await asyncio.sleep(pause_s * (0.5 + deployment.draw.random()))
            await asyncio.to_thread(deployment.disturb)
        answered, settled = len(sessions.answered), time.monotonic() + SETTLE_S
        while not talking.done() and time.monotonic() < settled:  # after the last disturbance everything works again
            if len(sessions.answered) >= answered + count and len({one.version for one in sessions.answered}) > 1:
                break
            await asyncio.sleep(0.1)
    finally:
        sessions.stopping = True
        await talking


@pytest.mark.parametrize(
    ("count", "seconds", "pause_s"),
    [
        pytest.param(6, 10.0, 1.0, id="small", marks=pytest.mark.slow),
        pytest.param(50, 120.0, 4.0, id="50-sessions-two-minutes", marks=pytest.mark.scale),
    ],
)
def test_kills_lose_and_double_nothing_that_was_answered_and_no_answer_is_of_another_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, seconds: float, pause_s: float
) -> None:
    monkeypatch.chdir(tmp_path)
    deployment = Deployment(tmp_path, random.Random(count))
    deployment.start()
    try:
        sessions = Sessions(deployment.gateway.url, deployment.gateway.token)
        asyncio.run(_disturbed(deployment, sessions, count, seconds, pause_s))
    finally:
        deployment.stop()
    print(f"{len(sessions.answered)} answered, {sessions.failures} failed, {deployment.kills}, {len(sessions.rated)}")
    found = handed_over(tmp_path / "inbox")
    _check_exchanges(sessions, found, Masking(salt_of(tmp_path / "inbox")))
    _check_feedback(sessions, [turn for episode in found for turn in episode.turns])


def _check_exchanges(sessions: Sessions, found: list[Trajectory], masking: Masking) -> None:
    recorded = {turn.messages[-1].content: (episode, turn) for episode in found for turn in episode.turns}
    assert sum(len(episode.turns) for episode in found) == len(recorded), "an exchange was recorded twice"
    assert set(recorded) <= sessions.asked
    for one in sessions.answered:
        assert one.text in recorded, "an answered exchange was lost"
        episode, turn = recorded[one.text]
        assert turn.response == one.answer
        assert one.answer.startswith(served_name(one.version)), "an answer is of another version than it says"
        assert one.answer.endswith(f": {one.text}")
        assert episode.policy == one.version, "an episode is not of the version that answered"
        assert episode.session == masking.id(one.session)
    assert len({one.version for one in sessions.answered}) > 1
    assert max(Counter(len(episode.turns) for episode in found)) == TURNS


def _check_feedback(sessions: Sessions, turns: list[Turn]) -> None:
    given = Counter(one.comment for turn in turns for one in turn.given if not one.superseded)
    rated = {one.text for one in sessions.answered if one.id in sessions.rated}
    assert rated
    assert {given[text] for text in rated} == {1}
