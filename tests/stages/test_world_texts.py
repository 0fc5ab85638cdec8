"""Texts for player and extractor: the environment's, or the preset's."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from oel_core import envs
from oel_core.config.run import ExtractionExample, OelConfig, load_config, parse_config
from oel_core.errors import ArtifactError, ConfigError
from oel_core.policies.scripted import ScriptedPolicy
from oel_core.rounds.context import StageContext
from oel_core.rounds.round import Round
from oel_core.runs.folder import open_run
from oel_core.stages.collect import collect
from oel_core.stages.evaluate import evaluate
from oel_core.stages.extract import extract
from oel_core.types import Message
from tests.fakes import CORRIDOR, CorridorEnv


@pytest.fixture(autouse=True)
def _corridor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(envs.REGISTRY, *CORRIDOR)


def config(**texts: dict[str, Any]) -> OelConfig:
    values: dict[str, Any] = {
        "environment": {"name": "corridor", "max_turns": 2},
        "collect": {"replicas": 1, "extraction_episodes": 2},
        "distill": {"steps": 1, "episodes_per_step": 1},
        "evaluate": {"games": {"episodes": 2}},
    }
    merged = {section: {**values.get(section, {}), **own} for section, own in texts.items()}
    return parse_config({**values, **merged}, "test")


def asked(settings: OelConfig, root: Path, stages: Sequence[str]) -> set[str]:
    """System messages of every prompt of these stages."""
    seen: set[str] = set()

    def player(messages: tuple[Message, ...], seed: int) -> str:
        seen.add(messages[0].content)
        return "- EXPERIENCE ITEM: go [right]"

    context = StageContext(load=lambda path, model: ScriptedPolicy(player, batch_size=2))
    run = open_run(root, "run")
    if "collect" in stages:
        collect(Round(settings, run, 1), context)
    if "extract" in stages:
        extract(Round(settings, run, 1), context)
    if "evaluate" in stages:
        evaluate(Round(settings, run, 0), "held_out", context)
    return seen


def test_a_world_has_its_own_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CorridorEnv, "instructions", "Walk.")
    monkeypatch.setattr(CorridorEnv, "extraction_task", "Study corridors.")
    played, read = asked(config(), tmp_path, ["collect", "evaluate"]), asked(config(), tmp_path, ["extract"])
    assert played == {f"Walk.\n{CorridorEnv.intro}"}
    assert {text.partition(" Write only")[0] for text in read} == {"Study corridors."}


def test_a_preset_overrides_both(tmp_path: Path) -> None:
    own = config(environment={"name": "corridor", "instructions": "Run."}, extract={"task": "Study runners."})
    played, read = asked(own, tmp_path, ["collect", "evaluate"]), asked(own, tmp_path, ["extract"])
    assert played == {f"Run.\n{CorridorEnv.intro}"}
    assert {text.partition(" Write only")[0] for text in read} == {"Study runners."}


def test_a_world_shows_its_own_examples_unless_the_preset_has_others(monkeypatch: pytest.MonkeyPatch) -> None:
    own, other = ({"episode": text, "answer": "- EXPERIENCE ITEM: x"} for text in ("own", "other"))
    monkeypatch.setattr(CorridorEnv, "extraction_examples", (ExtractionExample(**own),), raising=False)
    shown = [config(), config(extract={"examples": [other]}), config(extract={"examples": []})]
    assert [[one.episode for one in envs.extraction_examples(each)] for each in shown] == [["own"], ["other"], []]


def test_examples_reach_the_extractor(tmp_path: Path) -> None:
    own = config(extract={"examples": [{"episode": "shown", "answer": "- EXPERIENCE ITEM: x"}]})
    prompts: list[tuple[str, ...]] = []

    def player(messages: tuple[Message, ...], seed: int) -> str:
        prompts.append(tuple(message.content for message in messages[1:-1]))
        return "- EXPERIENCE ITEM: go [right]"

    context, run = (
        StageContext(load=lambda path, model: ScriptedPolicy(player, batch_size=2)),
        open_run(tmp_path, "run"),
    )
    collect(Round(own, run, 1), context)
    prompts.clear()
    extract(Round(own, run, 1), context)
    assert prompts == [("shown", "- EXPERIENCE ITEM: x")] * 2


@pytest.mark.parametrize(
    ("stage", "other"),
    [
        ("collect", {"environment": {"name": "corridor", "max_turns": 2, "instructions": "Run."}}),
        ("evaluate", {"environment": {"name": "corridor", "max_turns": 2, "instructions": "Run."}}),
        ("extract", {"extract": {"task": "Study runners."}}),
    ],
)
def test_other_texts_are_other_settings_of_a_stage(tmp_path: Path, stage: str, other: dict[str, Any]) -> None:
    asked(config(), tmp_path, ["collect", "extract", "evaluate"])
    with pytest.raises(ArtifactError, match=r"instructions|extract\.task"):
        asked(config(**other), tmp_path, [stage])


@pytest.mark.parametrize("field", ["environment.instructions", "extract.task"])
def test_a_blank_text_is_refused(field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        load_config("quickstart", [f"{field}='  '"])


def test_a_world_without_an_extraction_task_is_refused_before_it_is_played(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CorridorEnv, "extraction_task", " ")
    with pytest.raises(ConfigError, match="'corridor': its class has no text extraction_task"):
        envs.check_spec(envs.EnvSpec("corridor"))
