"""The run folder: finished stages are skipped, killed ones resume, changed settings are reported."""

import contextlib
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oel_core.config.run import OelConfig, parse_config
from oel_core.errors import ArtifactError, ConfigError
from oel_core.runs import folder as artifacts
from oel_core.runs.files import write_atomic
from oel_core.runs.folder import RunFolder, adopt_config, find_run, open_run, stage_key
from oel_core.runs.jsonl import JsonlWriter, recover_jsonl
from oel_core.runs.locks import exclusive, is_held
from oel_core.runs.manifest import Manifest, read_record
from oel_core.types import Message

CONFIG = OelConfig()
SECTIONS = ("seed", "collect", "distill.steps")


class Killed(BaseException):
    """Stands for SIGKILL: nothing may catch it."""


def config(**values: Any) -> OelConfig:
    return parse_config(values, "test")


def key(configuration: OelConfig = CONFIG, policy: str = "aaaa") -> Any:
    return stage_key(configuration, 1, "collect", SECTIONS, {"policy": policy})


def write_rows(folder: Path) -> dict[str, float]:
    path = folder / "rows.jsonl"
    done = recover_jsonl(path, Message)
    with JsonlWriter(path) as writer:
        for number in range(len(done), 4):
            writer.append(Message(role="user", content=str(number)))
    write_atomic(folder / "knowledge.md", b"text")
    return {"rows": 4}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return open_run(tmp_path, "run")


def test_a_finished_stage_says_what_made_it_and_is_skipped(run: RunFolder) -> None:
    first = run.perform(key(), write_rows)
    assert first.counts["rows"] == 4
    assert sorted(first.outputs) == ["knowledge.md", "rows.jsonl"]
    assert first.key.config == {
        "seed": 0,
        "collect.replicas": 10,
        "collect.extraction_episodes": 30,
        "distill.steps": 20,
    }

    def never(folder: Path) -> dict[str, float]:
        raise AssertionError("done before")

    assert run.perform(key(), never) == first
    assert run.manifest(1, "collect") == first
    assert not run.stage_path(1, ".collect.partial").exists()


def test_other_settings_and_inputs_are_named(run: RunFolder) -> None:
    run.perform(key(), write_rows)
    changed = config(seed=3, distill={"steps": 7, "learning_rate": 1.0})
    with pytest.raises(ArtifactError) as caught:
        run.perform(key(changed, policy="bbbb"), write_rows)
    message = str(caught.value)
    assert "setting seed: 0 → 3" in message
    assert "setting distill.steps: 20 → 7" in message
    assert "input policy: aaaa → bbbb" in message
    assert "learning_rate" not in message
    assert str(run.stage_path(1, "collect")) in message


def test_a_half_done_stage_is_not_gone_on_with_under_other_settings(run: RunFolder) -> None:
    def killed(folder: Path) -> dict[str, float]:
        write_rows(folder)
        raise Killed

    with pytest.raises(Killed):
        run.perform(key(), killed)
    with pytest.raises(ArtifactError, match="setting seed: 0 → 1"):
        run.perform(key(config(seed=1)), write_rows)
    with pytest.raises(ArtifactError, match="setting seed: 0 → 1"):
        adopt_config(run, config(seed=1))


@settings(max_examples=30, deadline=None)
@given(moment=st.integers(min_value=0, max_value=14))
def test_a_kill_before_any_write_changes_nothing_in_the_end(
    tmp_path_factory: pytest.TempPathFactory, moment: int
) -> None:
    """Every flush and rename is a moment at which the process may die."""
    folder = tmp_path_factory.mktemp("killed")
    run = open_run(folder, "run")
    with pytest.MonkeyPatch.context() as patch:
        left, replace = moment, os.replace

        def dying(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **named: Any) -> Any:
                nonlocal left
                left -= 1
                if left < 0:
                    raise Killed
                return real(*arguments, **named)

            return call

        patch.setattr(os, "fsync", dying(lambda handle: None))
        patch.setattr(os, "replace", dying(os.replace))
        with contextlib.suppress(Killed):
            run.perform(key(), write_rows)
        patch.setattr(os, "fsync", lambda handle: None)
        patch.setattr(os, "replace", replace)
        manifest = run.perform(key(), write_rows)
    folder = run.stage_path(1, "collect")
    assert [row.content for row in recover_jsonl(folder / "rows.jsonl", Message)] == ["0", "1", "2", "3"]
    assert sorted(path.name for path in folder.iterdir()) == ["knowledge.md", "manifest.json", "rows.jsonl"]
    artifacts.verify_outputs(folder, manifest)


def test_a_folder_without_its_start_note_is_begun_anew(run: RunFolder) -> None:
    partial = run.stage_path(1, ".collect.partial")
    partial.mkdir(parents=True)
    (partial / "stray.txt").write_text("?")
    assert "stray.txt" not in run.perform(key(), write_rows).outputs


def test_adopting_a_configuration_checks_every_stage_first(run: RunFolder) -> None:
    run.perform(key(), write_rows)
    adopt_config(run, CONFIG)
    with pytest.raises(ArtifactError, match=r"distill\.steps: 20 → 3"):
        adopt_config(run, config(distill={"steps": 3}))
    assert run.config() == CONFIG
    longer = config(rounds=9, description="more")
    adopt_config(run, longer)
    assert run.config() == longer


def test_an_option_that_was_added_is_noticed(run: RunFolder) -> None:
    run.perform(stage_key(CONFIG, 1, "collect", ("environment",), {}), write_rows)
    with pytest.raises(ArtifactError, match=r"environment\.options\.size: \(absent\) → 5"):
        adopt_config(run, config(environment={"options": {"size": 5}}))


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("rows.jsonl", lambda data: data[:-4], r"rows\.jsonl, line 4 is not JSON"),
        ("rows.jsonl", lambda data: data[: data.rfind(b"{")], r"rows\.jsonl was changed after"),
        ("knowledge.md", lambda data: data + b"!", r"knowledge\.md was changed after"),
        ("knowledge.md", None, r"knowledge\.md is missing"),
    ],
)
def test_finished_files_that_changed_are_named(run: RunFolder, name: str, damage: Any, message: str) -> None:
    run.perform(key(), write_rows)
    path = run.stage_path(1, "collect") / name
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ArtifactError, match=message):
        adopt_config(run, CONFIG)


def test_a_foreign_manifest_is_named_with_its_field(run: RunFolder) -> None:
    run.perform(key(), write_rows)
    path = run.stage_path(1, "collect") / "manifest.json"
    path.write_text('{"key": 3}')
    with pytest.raises(ArtifactError, match=r"manifest\.json is not a Manifest: key"):
        read_record(path, Manifest)


@pytest.mark.parametrize("name", ["round_x/collect", "collect", "round_01/other", "../../x", ""])
def test_a_record_of_another_stage_is_named(run: RunFolder, name: str) -> None:
    run.perform(key(), write_rows)
    path = run.stage_path(1, "collect") / "manifest.json"
    path.write_text(path.read_text().replace('"round_01/collect"', f'"{name}"'))
    for read in (lambda: adopt_config(run, CONFIG), lambda: run.manifest(1, "collect")):
        with pytest.raises(ArtifactError, match=f"its record is of stage '{name}', not round_01/collect"):
            read()


@pytest.mark.parametrize("folder", ["round_x/collect", "round_01/colect"])
def test_a_renamed_folder_of_a_stage_is_named(run: RunFolder, folder: str) -> None:
    run.perform(key(), write_rows)
    (run.path / folder).parent.mkdir(exist_ok=True)
    run.stage_path(1, "collect").rename(run.path / folder)
    with pytest.raises(ArtifactError, match=f"{folder}: its record is of stage 'round_01/collect'"):
        adopt_config(run, CONFIG)


def _hold(path: Path, ready: Any) -> None:
    with exclusive(path):
        ready.set()
        ready.wait(0.1)
        multiprocessing.Event().wait(30)


def test_only_one_process_works_on_a_run_and_a_killed_one_frees_it(run: RunFolder) -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    other = context.Process(target=_hold, args=(run.path / ".lock", ready))
    other.start()
    try:
        assert ready.wait(20)
        assert is_held(run.path / ".lock")
        with pytest.raises(ArtifactError, match=f"in use by process {other.pid} on "), run.locked():
            pass
    finally:
        other.kill()
        other.join()
    with run.locked():
        pass
    assert not is_held(run.path / ".lock")


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "ä", "x y"])
def test_names_that_cannot_be_folders_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="run name"):
        open_run(tmp_path, name)


@pytest.mark.parametrize("name", ["a?b", "a%20b", "a\nb", "a\x1bb", "a\udcffb"])
def test_a_root_that_no_url_can_name_is_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="may not contain"):
        open_run(tmp_path / name, "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a b", "a#b", "100 %", "{run}", "{root}", "é"])
def test_other_signs_in_a_root_are_fine(tmp_path: Path, name: str) -> None:
    assert open_run(tmp_path / name, "run").path.is_dir()


def test_an_unwritable_root_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ConfigError, match="cannot write"):
        open_run(tmp_path / "file", "run")


def test_a_run_is_found_by_name_or_path_and_a_wrong_name_lists_the_others(run: RunFolder) -> None:
    adopt_config(run, CONFIG)
    root = run.path.parent
    assert find_run(root, "run") == find_run(Path("elsewhere"), str(run.path)) == run
    with pytest.raises(ConfigError, match=r"no run 'rnu' under .*: there are run"):
        find_run(root, "rnu")
