"""What runs of a study take over from each other, and what they do not."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from oel_core.errors import ArtifactError
from oel_core.runs.folder import RunFolder
from oel_core.runs.manifest import StageKey
from oel_core.study.sharing import SharingFolder, shared_stages


def key(seed: int = 0, **inputs: str) -> StageKey:
    return StageKey(stage="round_01/collect", sections=("seed",), config={"seed": seed}, inputs=inputs)


@pytest.fixture
def made() -> list[str]:
    """Names of the runs that worked."""
    return []


def worker(made: list[str], name: str) -> Callable[[Path], Mapping[str, float]]:
    def work(folder: Path) -> Mapping[str, float]:
        made.append(name)
        (folder / "deep").mkdir(exist_ok=True)
        (folder / "deep" / "a.txt").write_text(name)
        return {"episodes": 1}

    return work


def test_equal_keys_are_one_piece_of_work(tmp_path: Path, made: list[str]) -> None:
    RunFolder(tmp_path / "one").perform(key(), worker(made, "one"))
    two = SharingFolder(tmp_path / "two", donors=("zero", "one"))
    manifest = two.perform(key(), worker(made, "two"))
    assert made == ["one"]
    assert (two.path / "round_01/collect/deep/a.txt").read_text() == "one"
    assert manifest.counts["episodes"] == 1
    assert shared_stages(two) == {"round_01/collect": "one"}


@pytest.mark.parametrize("other", [key(seed=1), key(policy="another")])
def test_another_setting_or_input_is_other_work(tmp_path: Path, made: list[str], other: StageKey) -> None:
    RunFolder(tmp_path / "one").perform(key(), worker(made, "one"))
    two = SharingFolder(tmp_path / "two", donors=("one",))
    two.perform(other, worker(made, "two"))
    assert made == ["one", "two"]
    assert shared_stages(two) == {}
    assert (two.path / "round_01/collect/deep/a.txt").read_text() == "two"


def test_own_finished_work_is_not_replaced(tmp_path: Path, made: list[str]) -> None:
    two = SharingFolder(tmp_path / "two", donors=("one",))
    two.perform(key(), worker(made, "two"))
    RunFolder(tmp_path / "one").perform(key(), worker(made, "one"))
    two.perform(key(), worker(made, "two"))
    assert made == ["two", "one"]
    with pytest.raises(ArtifactError, match="seed: 0 → 7"):
        two.perform(key(seed=7), worker(made, "two"))


def test_a_kill_in_the_middle_of_taking_over_leaves_nothing_half(
    tmp_path: Path, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    RunFolder(tmp_path / "one").perform(key(), worker(made, "one"))
    two = SharingFolder(tmp_path / "two", donors=("one",))

    def killed(source: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            two.perform(key(), worker(made, "two"))
    assert not two.has(1, "collect")
    two.perform(key(), worker(made, "two"))
    assert made == ["one"]
    assert two.has(1, "collect")
    assert not list(two.path.rglob("*.partial"))


def test_where_links_are_impossible_files_are_copied(
    tmp_path: Path, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    RunFolder(tmp_path / "one").perform(key(), worker(made, "one"))

    def refuse(source: Path, target: Path) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    two = SharingFolder(tmp_path / "two", donors=("one",))
    two.perform(key(), worker(made, "two"))
    assert made == ["one"]
    assert (two.path / "round_01/collect/deep/a.txt").stat().st_nlink == 1
