"""What a bundle holds, and what never gets into it."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from oel_core.bundles.making import make_bundle
from oel_core.bundles.reading import Bundle
from oel_core.errors import ArtifactError, ConfigError
from oel_core.rounds.round import Round
from oel_core.types import Split
from tests.bundles.rounds import REPLICAS, played


def test_a_bundle_has_the_rounds_knowledge_and_prompts(tmp_path: Path, model: Path) -> None:
    round = played(tmp_path, model)
    bundle = make_bundle(round, tmp_path / "out" / "a.zip")
    texts = ["\n".join(item.text for item in entry.items) for entry in bundle.knowledge()]
    assert texts == [entry.text for entry in round.merged_knowledge()]
    episodes = round.trajectories(Split.DISTILL)
    expected = [(n, t, turn.messages) for n, episode in enumerate(episodes) for t, turn in enumerate(episode.turns)]
    assert [(prompt.episode, prompt.turn, prompt.messages) for prompt in bundle.prompts()] == expected
    assert (bundle.manifest.replicas, bundle.manifest.episodes) == (REPLICAS, len(episodes))
    assert bundle.manifest.prompts == len(expected)


def test_the_same_round_gives_the_same_bytes_and_another_one_others(tmp_path: Path, model: Path) -> None:
    round = played(tmp_path, model)
    first, again = (make_bundle(round, tmp_path / name) for name in ("a.zip", "b.zip"))
    assert first.path.read_bytes() == again.path.read_bytes()
    assert make_bundle(round, tmp_path / "a.zip").digest == first.digest
    other = played(tmp_path, model, "other", seed=3)
    assert make_bundle(other, tmp_path / "c.zip").digest != first.digest
    with pytest.raises(ArtifactError, match=r"a\.zip is there already and is something else"):
        make_bundle(other, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == first.path.read_bytes()
    assert sorted(path.name for path in tmp_path.glob("*.zip*")) == ["a.zip", "b.zip", "c.zip"]


def test_neither_ids_nor_names_of_models_and_environments_are_in_it(tmp_path: Path, model: Path) -> None:
    round = played(tmp_path, model)
    path = make_bundle(round, tmp_path / "a.zip").path
    text = everything(path)
    item = round.merged_knowledge()[0].items[0]
    for name in (round.run.name + "/", item.sources[0], item.model, str(model), round.config.environment.name + '"'):
        assert name not in text
    responses = {turn.response for episode in round.trajectories(Split.DISTILL) for turn in episode.turns[-1:]}
    assert responses
    with zipfile.ZipFile(path) as archive:
        assert sorted(archive.namelist()) == sorted(
            ["README.txt", "manifest.json", "prompts.jsonl"]
            + [f"knowledge_0{replica}.{end}" for replica in range(REPLICAS) for end in ("md", "json")]
        )
        line = json.loads(archive.read("prompts.jsonl").splitlines()[0])
    assert set(line) == {"episode", "turn", "messages"}


def test_the_same_source_has_the_same_digest_here_and_another_one_elsewhere(tmp_path: Path, model: Path) -> None:
    def sources(root: str) -> list[tuple[str, ...]]:
        bundle = make_bundle(played(tmp_path / root, model), tmp_path / root / "a.zip")
        return [item.sources for entry in bundle.knowledge() for item in entry.items]

    ours, theirs = sources("x"), sources("y")
    assert len(set(ours)) > 1
    assert set(ours).isdisjoint(theirs)


def test_knowledge_only_has_no_prompt(tmp_path: Path, model: Path) -> None:
    round = played(tmp_path, model)
    bundle = make_bundle(round, tmp_path / "a.zip", knowledge_only=True)
    assert list(bundle.prompts()) == []
    assert (bundle.manifest.episodes, bundle.manifest.prompts) == (0, 0)
    observation = round.trajectories(Split.DISTILL)[0].turns[0].messages[-1].content
    assert observation not in everything(bundle.path)


def test_the_description_says_what_is_inside(tmp_path: Path, model: Path) -> None:
    bundle = make_bundle(played(tmp_path, model), tmp_path / "a.zip")
    with zipfile.ZipFile(bundle.path) as archive:
        text = archive.read("README.txt").decode()
    manifest = bundle.manifest
    assert f"{manifest.items} items in 2 files" in text
    assert f"{manifest.prompts} of {manifest.episodes} episodes" in text
    assert manifest.start_model in text


@pytest.mark.parametrize(
    ("knowledge", "message"),
    [
        ({"max_tokens": 4000, "source": {"use": "raw"}}, "recorded episodes, which do not leave"),
        ({"max_tokens": 400, "selection": {"use": "weighted"}}, "a bundle has no weights"),
    ],
)
def test_raw_episodes_and_weights_are_refused(
    tmp_path: Path, model: Path, knowledge: dict[str, Any], message: str
) -> None:
    round = played(tmp_path, model, knowledge=knowledge)
    with pytest.raises(ConfigError, match=message):
        make_bundle(round, tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()


def test_a_round_without_knowledge_is_an_error_that_names_the_stage(tmp_path: Path, model: Path) -> None:
    round = played(tmp_path, model)
    with pytest.raises(ArtifactError, match="round_02/accumulate has not finished"):
        make_bundle(Round(round.config, round.run, 2), tmp_path / "a.zip")


def everything(path: Path) -> str:
    """All texts of a bundle."""
    with zipfile.ZipFile(path) as archive:
        return "\n".join(archive.read(name).decode() for name in archive.namelist())


def test_what_was_written_can_be_read_again(tmp_path: Path, model: Path) -> None:
    made = make_bundle(played(tmp_path, model), tmp_path / "a.zip")
    assert Bundle.open(made.path, made.digest) == made
