"""Objects of a store: addresses, conditional creation, attempts after errors, and what messages say."""

import threading
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from oel_core.errors import ConfigError, StoreError
from oel_core.runs.stored.objects import check_store_url, object_store
from oel_core.runs.stored.working_copy import store_url, working_copy


@pytest.mark.parametrize(
    ("given", "known"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/runs//", "s3://bucket/runs"),
        ("gs://bucket/a/b", "gs://bucket/a/b"),
        ("file:///mnt/runs/", "file:///mnt/runs"),
    ],
)
def test_addresses_are_normalised(given: str, known: str) -> None:
    assert check_store_url(given) == known


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("ftp://host/x", "known are s3://"),
        ("s3://", "name a bucket"),
        ("s3://bucket/../other", "name a bucket"),
        ("file://runs", "name a bucket"),
        ("s3://name:hunter2@bucket/x", "no user, password or query"),
        ("s3://bucket/x?versionId=hunter2", "no user, password or query"),
    ],
)
def test_other_addresses_are_refused_without_repeating_secrets(given: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        check_store_url(given)
    assert "name:hunter2" not in str(caught.value)


def test_a_working_copy_knows_its_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OEL_CACHE", str(tmp_path))
    root = working_copy("s3://bucket/team runs/")
    assert root.is_relative_to(tmp_path)
    assert " " not in root.name
    assert working_copy("s3://bucket/team runs") == root != working_copy("s3://bucket/team-runs")
    assert store_url(root) == "s3://bucket/team runs"
    assert store_url(tmp_path) is None


@pytest.mark.parametrize("scheme", ["memory", "file"])
def test_objects(tmp_path: Path, scheme: str) -> None:
    store = object_store(f"{scheme}://{tmp_path}/store")
    assert store.read("a/x") is None
    assert store.entries("a") == {}
    assert store.folders() == []
    store.write("a/x", b"1")
    store.write("a/x", b"22")
    (tmp_path / "file").write_bytes(b"333")
    store.upload(tmp_path / "file", "a/b/y")
    assert store.entries("a") == {"x": 2, "b/y": 3}
    assert store.folders() == ["a"]
    store.download("a/b/y", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"333"
    assert store.age_s("a/x") < 60
    store.delete(["a/x", "a/none"])
    assert store.entries("a") == {"b/y": 3}
    with pytest.raises(StoreError, match=r"a/none cannot be read .*restore the object"):
        store.download("a/none", tmp_path / "copy")


@pytest.mark.parametrize("scheme", ["memory", "file"])
def test_creation_is_conditional(tmp_path: Path, scheme: str) -> None:
    store = object_store(f"{scheme}://{tmp_path}/store")
    assert store.create("x", b"mine")
    assert not store.create("x", b"other")
    assert store.create("x", b"mine"), "as after a lost answer"
    assert store.read("x") == b"mine"
    assert store.entries("") == {"x": 4}


def test_of_many_creators_in_a_folder_one_succeeds(tmp_path: Path) -> None:
    store, barrier, won = object_store(f"file://{tmp_path}/store"), threading.Barrier(8), list[int]()

    def create(number: int) -> None:
        barrier.wait()
        if store.create("x", str(number).encode()):
            won.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.read("x") == str(won[0]).encode()
    assert len(won) == 1


class Faults:
    """Errors of the file system's writes: the `n`-th call of each kind, counted from 1, fails where `when` is true."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, when: Any, error: Exception) -> None:
        self.calls = 0
        original = MemoryFileSystem.pipe_file

        def pipe_file(files: Any, path: str, value: bytes, **kwargs: Any) -> None:
            self.calls += 1
            if when(self.calls):
                raise error
            original(files, path, value, **kwargs)

        monkeypatch.setattr(MemoryFileSystem, "pipe_file", pipe_file)


def test_lost_connections_are_tried_again(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = Faults(monkeypatch, lambda call: call <= 5, ConnectionResetError("reset by peer"))
    object_store(url).write("x", b"1")
    assert faults.calls == 6
    assert object_store(url).read("x") == b"1"


def test_after_six_attempts_one_message_says_what_to_do(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SECRET_KEY", "hunter2hunter2")
    error = ConnectionResetError("reset by http://me:password@host while signing with hunter2hunter2")
    faults = Faults(monkeypatch, lambda call: True, error)
    with pytest.raises(
        StoreError, match=r"x cannot be written after 6 attempts .*run the same command again"
    ) as caught:
        object_store(url).write("x", b"1")
    assert faults.calls == 6
    assert "hunter2" not in str(caught.value)
    assert "password" not in str(caught.value)


def test_refusals_are_not_tried_again(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = Faults(monkeypatch, lambda call: True, PermissionError("Access Denied"))
    with pytest.raises(StoreError, match=r"Access Denied\): check the store's credentials"):
        object_store(url).create("x", b"1")
    assert faults.calls == 1


def test_a_truncated_upload_is_tried_again(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, calls = MemoryFileSystem.put_file, list[str]()

    def put_file(files: Any, source: str, target: str, **kwargs: Any) -> None:
        calls.append(target)
        if len(calls) == 1:
            files.pipe_file(target, Path(source).read_bytes()[:-1])
        else:
            original(files, source, target, **kwargs)

    monkeypatch.setattr(MemoryFileSystem, "put_file", put_file)
    (tmp_path / "file").write_bytes(b"12345")
    object_store(url).upload(tmp_path / "file", "x")
    assert len(calls) == 2
    assert object_store(url).read("x") == b"12345"


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*args: Any, **kwargs: Any) -> None:
        raise ImportError("install gcsfs")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(ConfigError, match=r"pip install 'oel\[gs\]'"):
        object_store("gs://bucket/x")
