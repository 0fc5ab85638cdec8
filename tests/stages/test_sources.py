"""Other knowledge sources: raw episodes and another run's files."""

from pathlib import Path
from typing import Any

import pytest

from oel_core import envs
from oel_core.config.run import OelConfig, parse_config
from oel_core.errors import ArtifactError, ConfigError, ExtractionError
from oel_core.knowledge.store import load_knowledge
from oel_core.rounds import round as rounds
from oel_core.rounds.context import StageContext
from oel_core.rounds.round import Round
from oel_core.runs.folder import RunFolder, open_run
from oel_core.stages.accumulate import accumulate
from oel_core.stages.collect import collect
from oel_core.types import Split
from tests.stages.test_select import accumulated, config, load_scripted


@pytest.fixture(autouse=True)
def _world(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(envs.REGISTRY, "corridor", "tests.fakes:CorridorEnv")
    monkeypatch.setattr(rounds, "model_digest", lambda path: "base")


def source(use: str, **more: Any) -> OelConfig:
    return config(source={"use": use, **more})


def collected(root: Path, name: str, configuration: OelConfig) -> RunFolder:
    run = open_run(root, name)
    collect(Round(configuration, run, 1), StageContext(load_scripted))
    return run


def test_raw_episodes_stand_in_for_knowledge_without_any_extraction(tmp_path: Path) -> None:
    configuration = source("raw", raw_max_tokens=4000)
    run = collected(tmp_path, "run", configuration)
    accumulate(Round(configuration, run, 1), StageContext(load_scripted))
    found = Round(configuration, run, 1).knowledge().knowledge
    assert [entry.replica for entry in found] == [0, 1, 2, 3]
    used = [e for e in Round(configuration, run, 1).trajectories(Split.EXTRACT) if e.index < configuration.use_after]
    assert [item.sources for entry in found for item in entry.items] == [(episode.id,) for episode in used]
    assert all(episode.feedback in entry.text for entry, episode in zip(found, used, strict=True))
    assert not run.has(1, "extract")


def test_raw_episodes_have_a_cap_of_their_own_and_too_small_a_one_is_said(tmp_path: Path) -> None:
    run = collected(tmp_path, "run", source("raw"))
    with pytest.raises(ExtractionError, match=r"No episode of it fits into 5 tokens.*raw_max_tokens"):
        accumulate(Round(source("raw", raw_max_tokens=5), run, 1), StageContext(load_scripted))


def test_another_runs_knowledge_is_taken_over_with_its_sources(tmp_path: Path) -> None:
    other = accumulated(tmp_path, "other", config())
    folder = other.stage_path(1, "accumulate")
    configuration = source("folder", folder=str(folder))
    run = collected(tmp_path, "run", configuration)
    manifest = accumulate(Round(configuration, run, 1), StageContext(load_scripted))
    for replica in range(4):
        taken = load_knowledge(run.stage_path(1, "accumulate"), replica)
        assert (taken.text, taken.items) == (
            load_knowledge(folder, replica).text,
            load_knowledge(folder, replica).items,
        )
    assert set(manifest.key.inputs) == {"folder"}
    assert str(folder) not in str(manifest.key.config)  # a study that is moved goes on


def test_a_longer_file_is_cut_to_the_cap_from_its_oldest_item(tmp_path: Path) -> None:
    other = accumulated(tmp_path, "other", config())
    folder = str(other.stage_path(1, "accumulate"))
    newest = load_knowledge(Path(folder), 0).items[-1].text
    configuration = config(source={"use": "folder", "folder": folder}, max_tokens=len(newest) + 2)
    run = collected(tmp_path, "run", configuration)
    accumulate(Round(configuration, run, 1), StageContext(load_scripted))
    assert load_knowledge(run.stage_path(1, "accumulate"), 0).text == newest


def test_other_knowledge_under_the_same_path_is_noticed(tmp_path: Path) -> None:
    other = accumulated(tmp_path, "other", config())
    folder = other.stage_path(1, "accumulate")
    configuration = source("folder", folder=str(folder))
    run = collected(tmp_path, "run", configuration)
    accumulate(Round(configuration, run, 1), StageContext(load_scripted))
    for name in ("knowledge_00.md", "knowledge_00.json"):
        (folder / name).write_bytes((folder / name.replace("00", "01")).read_bytes())
    with pytest.raises(ArtifactError, match="input folder"):
        accumulate(Round(configuration, run, 1), StageContext(load_scripted))


def test_a_folder_with_too_few_files_is_refused(tmp_path: Path) -> None:
    configuration = source("folder", folder=str(tmp_path))
    run = collected(tmp_path, "run", configuration)
    with pytest.raises(ConfigError, match=r"has no knowledge_00\.md.*4 replicas"):
        accumulate(Round(configuration, run, 1), StageContext(load_scripted))


@pytest.mark.parametrize(
    "knowledge",
    [
        {"source": {"use": "folder"}},
        {"source": {"use": "raw", "folder": "x"}},
        {"source": {"use": "raw"}, "saturation": {"every": 2}},
        {"source": {"use": "raw"}, "hygiene": {"policy": "drop"}},
    ],
)
def test_settings_that_do_not_go_together_are_refused(knowledge: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="knowledge"):
        parse_config({"knowledge": knowledge}, "test")
