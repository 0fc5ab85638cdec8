"""Cache entries are complete or absent."""

from pathlib import Path

import pytest

from oel_core.errors import EnvironmentError_
from oel_core.runs.folder_cache import cache_root, cached_folder


def write(text: str):
    return lambda folder: (folder / "game").write_text(text)


def test_an_entry_is_built_once(tmp_path: Path) -> None:
    assert (cached_folder(tmp_path / "new", "k", write("one")) / "game").read_text() == "one"
    assert (cached_folder(tmp_path / "new", "k", write("two")) / "game").read_text() == "one"
    assert [entry.name for entry in (tmp_path / "new").iterdir()] == ["k"]


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def torn(folder: Path) -> None:
        (folder / "game").write_text("half")
        raise EnvironmentError_("the compiler died")

    with pytest.raises(EnvironmentError_, match="compiler died"):
        cached_folder(tmp_path, "k", torn)
    assert list(tmp_path.iterdir()) == []


def test_whoever_comes_second_takes_the_first_ones_entry(tmp_path: Path) -> None:
    def overtaken(folder: Path) -> None:
        write("mine")(folder)
        cached_folder(tmp_path, "k", write("theirs"))

    assert (cached_folder(tmp_path, "k", overtaken) / "game").read_text() == "theirs"
    assert [entry.name for entry in tmp_path.iterdir()] == ["k"]


def test_an_unwritable_cache_says_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentError_, match="OEL_CACHE"):
        cached_folder(tmp_path / "file" / "below", "k", write("x"))


def test_the_root_follows_the_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OEL_CACHE", str(tmp_path))
    assert cache_root("textworld") == tmp_path / "textworld"
    monkeypatch.delenv("OEL_CACHE")
    assert cache_root("textworld") == Path.home() / ".cache" / "oel" / "textworld"
