"""Policies are loaded once, and again if the checkpoint has changed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from oel_core.config.run import ModelConfig
from oel_core.errors import ArtifactError
from oel_core.policies import load_policy, release
from tests.fakes import tiny_model, tiny_model_folder

CONFIG = ModelConfig(device="cpu")


@pytest.fixture(autouse=True)
def _released() -> Iterator[None]:
    yield
    release()


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tiny_model_folder(tmp_path))


def test_the_same_checkpoint_and_settings_are_loaded_once(folder: str) -> None:
    first = load_policy(folder, CONFIG)
    assert load_policy(folder, CONFIG.model_copy(update={"path": "elsewhere"})) is first
    assert load_policy(folder, CONFIG.model_copy(update={"thinking": True})) is not first


def test_a_changed_checkpoint_is_loaded_again(folder: str) -> None:
    first = load_policy(folder, CONFIG)
    tiny_model(seed=1).save_pretrained(folder)
    second = load_policy(folder, CONFIG)
    assert second is not first
    assert second.name != first.name


def test_release_and_close_both_end_the_sharing(folder: str) -> None:
    first = load_policy(folder, CONFIG)
    first.close()
    second = load_policy(folder, CONFIG)
    assert second is not first
    release()
    assert load_policy(folder, CONFIG) is not second


def test_wrong_names(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not a checkpoint"):
        load_policy(str(tmp_path), CONFIG)
