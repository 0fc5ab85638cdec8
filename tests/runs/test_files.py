import os
import threading
from pathlib import Path

import pytest

from oel_core.runs.files import write_atomic


def test_makes_the_folder_and_leaves_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.bin"
    write_atomic(path, b"one\r\n")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.bin"]


def test_a_failed_rename_keeps_the_old_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.bin"
    write_atomic(path, b"old")

    def refuse(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="disk full"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.bin"]


def test_two_threads_that_write_the_same_file_do_not_share_a_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, flush = tmp_path / "file.bin", os.fsync
    other = threading.Thread(target=write_atomic, args=(path, b"theirs"))

    def let_the_other_finish_first(handle: int) -> None:
        flush(handle)
        if other.ident is None:
            other.start()
            other.join()

    monkeypatch.setattr(os, "fsync", let_the_other_finish_first)
    write_atomic(path, b"ours")
    assert path.read_bytes() == b"ours"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.bin"]
