"""Evaluation outside a run: resumable, and never mixed with another evaluation."""

from pathlib import Path
from typing import Any

import pytest

from oel_core import envs
from oel_core.config.run import ModelConfig, OelConfig, parse_config
from oel_core.errors import ArtifactError
from oel_core.policies.base import Policy
from oel_core.policies.scripted import ScriptedPolicy
from oel_core.rounds.context import EPISODES, StageContext
from oel_core.runs.jsonl import read_jsonl
from oel_core.stages import measure as measuring
from oel_core.stages.measure import measure
from oel_core.types import EvalReport, Message, Trajectory
from tests.fakes import CORRIDOR


class Killed(BaseException):
    """Stands for SIGKILL."""


@pytest.fixture(autouse=True)
def _world(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(envs.REGISTRY, *CORRIDOR)
    monkeypatch.setattr(measuring, "resolve_model", Path)
    monkeypatch.setattr(measuring, "model_digest", lambda path: f"digest of {path}")


def config(**values: Any) -> OelConfig:
    base: dict[str, Any] = {"environment": {"name": "corridor", "max_turns": 4}}
    return parse_config(base | values, "test")


class Player:
    """Goes right, or left where knowledge says so; counts what it is asked, and may be killed."""

    def __init__(self, killed_after: int = 1000) -> None:
        self.asked = 0
        self.killed_after = killed_after
        self.seen: list[tuple[int, int]] = []

    def _answer(self, messages: tuple[Message, ...], seed: int) -> str:
        self.asked += 1
        return "[left]" if "the goal is left" in messages[0].content else "[right]"

    def _load(self, path: str, model: ModelConfig) -> Policy:
        return ScriptedPolicy(self._answer, batch_size=2)

    def _look(self, done: int, total: int) -> None:
        self.seen.append((done, total))
        if done == self.killed_after:
            raise Killed

    @property
    def given(self) -> StageContext:
        return StageContext(self._load, self._look)


def run(folder: Path, player: Player, **options: Any) -> EvalReport:
    return measure(folder, config(), "model", "games", {"episodes": 7, **options}, context=player.given)


def test_a_killed_measurement_goes_on_with_what_was_played(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", Player())
    with pytest.raises(Killed):
        run(tmp_path / "cut", Player(killed_after=4))
    assert not (tmp_path / "cut").exists()
    second = Player()
    assert run(tmp_path / "cut", second) == whole
    assert second.seen == [(5, 7), (6, 7), (7, 7)]
    episodes = [list(read_jsonl(tmp_path / name / EPISODES, Trajectory)) for name in ("whole", "cut")]
    assert [episode.id for episode in episodes[0]] == [episode.id for episode in episodes[1]]


def test_a_finished_measurement_is_read_and_not_made_again(tmp_path: Path) -> None:
    first = run(tmp_path / "out", Player())
    again = Player()
    assert run(tmp_path / "out", again) == first
    assert again.asked == 0


def test_a_folder_of_another_measurement_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    run(folder, Player())
    with pytest.raises(ArtifactError, match=r"input policy: digest of model → digest of other"):
        measure(folder, config(), "other", "games", {"episodes": 7}, context=Player().given)
    with pytest.raises(ArtifactError, match=r"setting option\.episodes: 7 → 8"):
        run(folder, Player(), episodes=8)
    other = config(environment={"name": "corridor", "max_turns": 5})
    with pytest.raises(ArtifactError, match=r"setting environment\.max_turns: 4 → 5"):
        measure(folder, other, "model", "games", {"episodes": 7}, context=Player().given)
    with pytest.raises(ArtifactError, match=r"input knowledge: \(absent\) → "):
        measure(folder, config(), "model", "games", {"episodes": 7}, knowledge="x", context=Player().given)


def test_knowledge_is_put_before_the_model(tmp_path: Path) -> None:
    knowledge = "the goal is left"
    without, known = (
        measure(tmp_path / name, config(), "model", "games", {"episodes": 7}, knowledge=text, context=Player().given)
        for name, text in (("without", None), ("with", knowledge))
    )
    assert without.passed + known.passed == 7  # the goal is at one end or the other
