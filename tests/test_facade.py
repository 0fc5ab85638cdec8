"""The façade."""

import subprocess
import sys
from pathlib import Path

import pytest

import oel_core as oel
from oel_core.errors import ConfigError, ExtractionError
from tests.fakes import CORRIDOR

FEW = ("distill.steps=2", "distill.checkpoint_every=5", "knowledge.selection.use=all", "evaluate.games.episodes=8")


def said(episode: oel.Trajectory) -> list[str]:
    return [turn.response for turn in episode.turns]


def test_importing_the_library_is_cheap_and_names_what_it_has() -> None:
    script = (
        "import sys, oel_core; print(sorted({'torch', 'pydantic', 'transformers'} & set(sys.modules)), dir(oel_core))"
    )
    listed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert listed.startswith("[] ")
    assert all(f"'{name}'" in listed for name in oel.__all__)


def test_every_public_name_can_be_had() -> None:
    assert all(getattr(oel, name) is not None for name in oel.__all__)
    with pytest.raises(AttributeError, match="no attribute 'plays'"):
        oel.plays  # noqa: B018


@pytest.mark.slow
def test_episodes_become_knowledge_and_knowledge_a_checkpoint(tmp_path: Path) -> None:
    episodes = oel.play("quickstart", episodes=4)
    assert [episode.index for episode in episodes] == [0, 1, 2, 3]
    again = oel.play("quickstart", episodes=4)
    assert [said(episode) for episode in episodes] == [said(episode) for episode in again]
    knowledge = oel.extract("quickstart", episodes)
    assert knowledge.items
    assert {source for item in knowledge.items for source in item.sources} <= {episode.id for episode in episodes}
    more = oel.play("quickstart", episodes=6, split=oel.Split.DISTILL)
    checkpoint = oel.distill("quickstart", more, [knowledge], tmp_path / "out", settings=FEW)
    before = oel.evaluate("quickstart", episodes=8)
    after = oel.evaluate("quickstart", policy=checkpoint, episodes=8)
    taught = oel.evaluate("quickstart", episodes=8, knowledge=knowledge.text)
    assert len({before.policy, after.policy}) == 2
    assert before.policy == taught.policy
    assert before.episodes == after.episodes == taught.episodes == 8


@pytest.mark.slow
def test_a_round_is_the_one_of_the_command_line(tmp_path: Path) -> None:
    summary = oel.run_round("tiny", tmp_path / "run")
    assert summary.round == 1
    assert summary.pass_rate is not None
    assert (tmp_path / "run" / "round_01" / "distill" / "manifest.json").exists()
    assert oel.run_round("tiny", tmp_path / "run") == summary


def test_an_environment_stands_for_the_defaults_with_it() -> None:
    config = oel.configure("lake", policy="somewhere", settings=["environment.max_turns=3"])
    assert (config.environment.name, config.environment.max_turns, config.model.path) == ("lake", 3, "somewhere")
    assert oel.configure(CORRIDOR[1]).environment.name == CORRIDOR[1]


def test_what_cannot_be_used_is_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean quickstart"):
        oel.play("quickstar")
    with pytest.raises(ConfigError, match="a configuration has its own"):
        oel.configure(oel.configure("lake"), settings=["seed=1"])
    with pytest.raises(ConfigError, match="no episodes"):
        oel.extract("quickstart", [])


def test_distillation_needs_knowledge(tmp_path: Path) -> None:
    with pytest.raises(ExtractionError):
        oel.distill("quickstart", [], [], tmp_path / "out")
