"""Runs in a store: what another machine gets, what a killed or failed upload leaves, what damage is noticed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from oel_core.errors import ArtifactError, BusyError, ConfigError, StoreError
from oel_core.housekeeping.cleaning import leftovers, remove, remove_run
from oel_core.housekeeping.listing import list_runs
from oel_core.runs.files import write_atomic
from oel_core.runs.folder import RunFolder, adopt_config, find_run, open_run
from oel_core.runs.holders import holder_of
from oel_core.runs.manifest import digest_file, note_altered
from oel_core.runs.stored.objects import ObjectStore, object_store
from oel_core.runs.stored.replica import fetch_run
from tests.runs.stored.machines import TEXT, Machine, config, files

Machines = Callable[[str], Machine]
EPISODES = "lake/round_01/distill/episodes.jsonl"


@pytest.fixture
def store(url: str) -> ObjectStore:
    return object_store(url)


class Killed(BaseException):
    """Stands for SIGKILL."""


class Uploads:
    """Written objects in order; the write for which `fails` is true raises `error`, whenever it is tried."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails: Callable[[str], bool], error: BaseException) -> None:
        self.paths: list[str] = []
        for name in ("put_file", "pipe_file"):
            monkeypatch.setattr(MemoryFileSystem, name, self._watched(name, fails, error))

    def _watched(self, name: str, fails: Callable[[str], bool], error: BaseException) -> Any:
        original = getattr(MemoryFileSystem, name)

        def write(file_system: Any, first: str, second: Any, *args: Any, **kwargs: Any) -> None:
            target = second if name == "put_file" else first
            if fails(target):
                raise error
            original(file_system, first, second, *args, **kwargs)
            self.paths.append(target)

        return write


def test_another_machine_gets_the_same_bytes_and_goes_on(machine: Machines) -> None:
    first, second = machine("a"), machine("b")
    run = first.learn(1)
    other = second.learn(1, 2)
    assert second.played == ["2 distill", "2 evaluate/held_out"]
    assert first.learn(1, 2).path != other.path
    assert first.played == ["1 distill", "1 evaluate/held_out"]
    assert files(run.path) == files(other.path)
    assert len(files(run.path)) == 13


def test_a_manifest_comes_after_its_outputs_and_the_index_last(
    machine: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = machine("a")
    run = here.run()
    with run.leased("test"):
        seen = Uploads(monkeypatch, lambda path: False, Killed())
        here.stage(1, "distill")
        written = [path.partition("/lake/")[2] for path in seen.paths if "/lease/" not in path]
    assert set(written[:2]) == {
        f"round_01/distill/{name}" for name in ("episodes.jsonl", "checkpoint/model.safetensors")
    }
    assert written[2:] == ["round_01/distill/manifest.json", "index.json"]


@pytest.mark.parametrize("lost", ["model.safetensors", "episodes.jsonl", "distill/manifest.json", "index.json"])
def test_a_failed_upload_is_repeated_without_the_stages_work(
    machine: Machines, store: ObjectStore, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    here = machine("a")
    here.learn()
    with monkeypatch.context() as patch:
        Uploads(patch, lambda path: path.endswith(lost), ConnectionResetError("reset"))
        with pytest.raises(StoreError, match=f"{lost} cannot be written after 6 attempts"):
            here.learn(1)
    assert ("round_01/distill/manifest.json" in store.entries("lake")) == (lost == "index.json")
    assert not here.run().has(1, "distill")
    run = here.learn(1)
    assert here.played == ["1 distill", "1 evaluate/held_out"]
    assert files(machine("b").learn(1).path) == files(run.path)


@pytest.mark.parametrize("last", ["episodes.jsonl", "distill/manifest.json", "index.json"])
@pytest.mark.parametrize("where", ["a", "b"])
def test_after_a_kill_in_mid_upload_any_machine_goes_on(
    machine: Machines, monkeypatch: pytest.MonkeyPatch, last: str, where: str
) -> None:
    here = machine("a")
    here.learn()
    with monkeypatch.context() as patch:
        Uploads(patch, lambda path: path.endswith(last) or ("/lease/" in path and bool(here.played)), Killed())
        with pytest.raises(Killed):
            here.learn(1)
    for entry in store_lease(here.url):
        object_store(here.url).delete([entry])  # the killed process is this one, which is alive
    there = machine(where)
    run = there.learn(1)
    again = ["1 distill"] if where == "b" and last != "index.json" else []
    assert there.played == [*again, "1 evaluate/held_out"]
    assert files(machine("c").learn(1).path) == files(run.path)


def store_lease(url: str) -> list[str]:
    return [f"lake/lease/{name}" for name in object_store(url).entries("lake/lease")]


def test_a_stage_that_another_machine_finished_first_is_not_replaced(machine: Machines, store: ObjectStore) -> None:
    here = machine("a")
    run = here.run()
    with run.leased("test"):
        store.write("lake/round_01/distill/manifest.json", b"{}")
        with pytest.raises(ArtifactError, match=r"distill/manifest\.json is of another attempt .* delete .*partial"):
            here.stage(1, "distill")
    assert store.read("lake/round_01/distill/manifest.json") == b"{}"


def test_work_that_another_machine_finished_replaces_what_was_begun_here(machine: Machines) -> None:
    first, second = machine("a"), machine("b")
    first.learn()
    partial = first.run().path / "round_01" / ".distill.partial"
    write_atomic(partial / "episodes.jsonl", b"half")
    second.learn(1)
    run = first.learn(1)
    assert first.played == []
    assert not partial.exists()
    assert files(run.path) == files(second.run().path)


@pytest.mark.parametrize("damage", [TEXT[:-1], TEXT.replace(b"one", b"two"), b""])
def test_a_damaged_object_is_named(machine: Machines, store: ObjectStore, damage: bytes) -> None:
    machine("a").learn(1)
    store.write(EPISODES, damage)
    with pytest.raises(ArtifactError, match=f"{EPISODES} is damaged: it has {len(damage)} bytes"):
        machine("b").learn(1)
    assert not machine("b").run().has(1, "distill")
    store.write(EPISODES, TEXT)
    machine("b").learn(1)


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("round_01/distill/manifest.json", b'"episodes":1.0', b'"episodes":2.0'),
        ("round_01/distill/manifest.json", b"{", b""),
        ("index.json", b'"bytes": ', b'"bytes": 1'),
        ("index.json", b"{", b""),
        ("config.yaml", b"rounds: 2", b"rounds: 3"),
    ],
)
def test_damaged_records_are_named(machine: Machines, store: ObjectStore, path: str, old: bytes, new: bytes) -> None:
    machine("a").learn(1)
    data = store.read(f"lake/{path}")
    assert data is not None
    data = data.replace(b'"episodes": 1.0', b'"episodes":1.0')
    assert old in data
    store.write(f"lake/{path}", data.replace(old, new, 1))
    with pytest.raises(ArtifactError, match=f"lake/{path} is damaged"):
        machine("b").learn(1)


def test_a_missing_object_is_named(machine: Machines, store: ObjectStore) -> None:
    machine("a").learn(1)
    store.delete([EPISODES])
    with pytest.raises(StoreError, match=f"{EPISODES} cannot be read .*restore the object from a copy"):
        machine("b").learn(1)


def test_two_machines_cannot_hold_one_run(machine: Machines) -> None:
    first, second = machine("a"), machine("b")
    with first.run().leased("oel run"):
        with pytest.raises(BusyError, match=r"/lake is in use by process .*oel run"), second.run().leased("oel run"):
            pass
        (entry,) = list_runs(second.root) or [None]
        assert entry is None, "nothing was uploaded yet"
        first.stage(1, "distill")
        adopt_config(first.run(), config())
        first.stage(1, "evaluate/held_out")
        (entry,) = list_runs(second.root)
        assert entry is not None
        assert entry.status == "running"
        assert holder_of(second.run()) is not None
    assert holder_of(second.run()) is None


def test_work_without_the_run_being_held_is_refused(machine: Machines) -> None:
    with pytest.raises(BusyError, match="which is not held"):
        machine("a").stage(1, "distill")


def test_removed_weights_and_changed_files_reach_the_store(machine: Machines, store: ObjectStore) -> None:
    here, there = machine("a"), machine("b")
    run = here.learn(1, 2)
    there.learn(1, 2)
    weights = "round_01/distill/checkpoint/model.safetensors"
    assert f"{weights}" in store.entries("lake")
    with run.leased("test"):
        remove(run, leftovers(run, ()))
        stage = run.stage_path(2, "distill")
        (stage / "episodes.jsonl").write_bytes(b" " * (len(TEXT) - 1) + b"\n")
        note_altered(stage, {"episodes.jsonl": digest_file(stage / "episodes.jsonl")})
    assert weights not in store.entries("lake")
    assert (store.read("lake/round_02/distill/episodes.jsonl") or b"x").strip() == b""
    for other in (there, machine("c")):
        found = other.learn(1, 2)
        assert (found.path / "round_02/distill/episodes.jsonl").read_bytes().strip() == b""
        assert (found.path / "round_01/distill/freed.json").exists()
    assert not (machine("c").run().path / weights).exists()


def test_a_removed_run_is_gone_everywhere(machine: Machines, store: ObjectStore) -> None:
    here, there = machine("a"), machine("b")
    run = here.learn(1)
    there.learn(1)
    remove_run(run)
    assert store.entries("lake") == {}
    assert not run.path.exists()
    assert list_runs(there.root) == []
    with pytest.raises(ArtifactError, match=r"the run is in the working copy .*/b/.* it was removed there"):
        there.learn(1)
    shutil.rmtree(there.run().path)
    there.learn(1)
    assert there.played == ["1 distill", "1 evaluate/held_out"]


def test_an_interrupted_removal_leaves_no_finished_stage(
    machine: Machines, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = machine("a").learn(1)
    original, removed = MemoryFileSystem.rm_file, list[str]()

    def rm_file(file_system: Any, path: str) -> None:
        if "/lease/" not in path:
            removed.append(path)
            if len(removed) > 3:
                raise PermissionError("denied")
        original(file_system, path)

    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "rm_file", rm_file)
        with pytest.raises(StoreError, match="cannot be removed"):
            remove_run(run)
    assert not [path for path in store.entries("lake") if path.endswith("manifest.json")]
    assert run.has(1, "distill")


def test_files_outside_of_stages_follow_the_last_writer(machine: Machines) -> None:
    first, second = machine("a"), machine("b")
    run, note = first.learn(), "round_01/start.json"
    write_atomic(run.path / note, b"first")
    with run.leased("test"):
        pass
    other = second.learn()
    assert (other.path / note).read_bytes() == b"first"
    write_atomic(other.path / note, b"second")
    fetch_run(other.path, "none")
    assert (other.path / note).read_bytes() == b"second", "not uploaded yet, as after a kill"
    with other.leased("test"):
        pass
    with run.leased("test"):
        assert (run.path / note).read_bytes() == b"second"


def test_reading_leaves_weights_and_held_runs_alone(machine: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = machine("a"), machine("b")
    first.learn(1)
    run = find_run(second.root, "lake")
    assert (run.path / "round_01/distill/episodes.jsonl").read_bytes() == TEXT
    assert not list(run.path.rglob("*.safetensors"))
    with run.leased("test"):
        assert list(run.path.rglob("*.safetensors"))
        write_atomic(run.path / "config.yaml", b"changed: here")
        fetch_run(run.path, "none")
        assert (run.path / "config.yaml").read_bytes() == b"changed: here"
        adopt_config(run, config())
    with pytest.raises(ConfigError, match="no run 'pond'"):
        find_run(second.root, "pond")


def test_a_listing_has_sizes_in_the_store_and_survives_a_damaged_run(
    machine: Machines, store: ObjectStore, caplog: pytest.LogCaptureFixture
) -> None:
    first = machine("a")
    run = first.learn(1)
    (entry,) = list_runs(machine("b").root)
    assert (entry.run, entry.rounds, entry.status) == ("lake", 1, "stopped")
    assert entry.bytes == sum(store.entries("lake").values()) > 4096
    store.write("lake/index.json", b"{")
    assert len(list_runs(machine("c").root)) == 0
    assert "lake/index.json is damaged" in caplog.text
    assert run.has(1, "distill")


def test_a_run_that_was_taken_over_uploads_nothing(machine: Machines, store: ObjectStore) -> None:
    here = machine("a")
    run = here.run()
    with run.leased("test"):
        store.write(f"lake/lease/{99:012d}.json", json.dumps({"lease": None, "id": "other"}).encode())
        with pytest.raises(BusyError, match="was taken over"):
            here.stage(1, "distill")
    assert [path for path in store.entries("lake") if not path.startswith("lease/")] == []


def test_credentials_are_in_no_file(machine: Machines, store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2hunter2")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://hunter2hunter2.example")
    run: RunFolder = machine("a").learn(1)
    assert not [path for path in run.path.parent.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]
    assert not [path for path in store.entries("lake") if b"hunter2" in (store.read(f"lake/{path}") or b"")]


def test_a_url_as_a_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="is no folder"):
        open_run(Path("s3://bucket/runs"), "lake")
    assert list(tmp_path.iterdir()) == []


def test_an_ordinary_root_has_no_store(tmp_path: Path) -> None:
    fetch_run(tmp_path / "lake", "all")
    assert list(tmp_path.iterdir()) == []
