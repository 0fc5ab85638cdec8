"""A project's settings: stored, changed by name only, with every change recorded."""

from pathlib import Path

import pytest

from oel_core.config.run import OelConfig, load_config
from oel_core.errors import ConfigError
from oel_core.projects.settings import (
    RequestedSettings,
    change_lines,
    change_of,
    keep_config,
    requested_config,
    settings_changes,
)
from oel_core.runs.folder import CONFIG, RunFolder, open_run, round_name


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return open_run(tmp_path, "project")


@pytest.fixture
def preset(tmp_path: Path) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text("distill: {steps: 3}\ngate: {margin: 0.1}\nrounds: 1\n")
    return str(path)


def triggered(run: RunFolder, id: str, preset: str | None = None, *overrides: str) -> OelConfig:
    """As a trigger does it."""
    requested = RequestedSettings(preset=preset, overrides=overrides)
    config = requested_config(run, requested)
    keep_config(run, config, change_of(run, config, requested, id))
    return config


def test_a_trigger_changes_only_what_it_names_and_the_project_keeps_it(run: RunFolder, preset: str) -> None:
    made = triggered(run, "one", preset)
    assert (made.distill.steps, made.gate.margin) == (3, 0.1)
    assert triggered(run, "two") == made
    changed = triggered(run, "three", None, "gate.margin=0.2")
    assert (changed.distill.steps, changed.gate.margin) == (3, 0.2)
    assert triggered(run, "four") == changed == run.config()
    assert triggered(run, "five", None, "gate.margin=0.2") == changed
    assert [(change.trigger, change.preset, change.changes) for change in settings_changes(run)] == [
        ("one", preset, ()),
        ("three", None, ("gate.margin: 0.1 → 0.2",)),
    ]
    assert change_lines(run, "three") == ["settings changed: gate.margin: 0.1 → 0.2"]
    assert change_lines(run, "four") == []


def test_another_preset_is_named_and_told(run: RunFolder, preset: str) -> None:
    triggered(run, "one", preset)
    other = triggered(run, "two", "quickstart")
    assert other == load_config("quickstart")
    assert settings_changes(run)[1].preset == "quickstart"
    (told,) = change_lines(run, "two")
    assert told.startswith("preset quickstart: ")
    assert "distill.steps: 3 → " in told


def test_a_project_that_nobody_named_a_preset_for_is_made_with_the_quickstart(run: RunFolder) -> None:
    assert triggered(run, "one") == load_config("quickstart")
    assert change_lines(run, "one") == ["preset quickstart: as it is"]


def test_rounds_that_grow_are_no_change(run: RunFolder, preset: str) -> None:
    made = triggered(run, "one", preset)
    keep_config(run, made, None)
    grown = made.model_copy(update={"rounds": 7})
    assert change_of(run, grown, RequestedSettings(), "two") is None


def test_what_a_kill_left_half_noted_is_noted_once(run: RunFolder, preset: str) -> None:
    requested = RequestedSettings(preset=preset)
    config = requested_config(run, requested)
    keep_config(run, config, change_of(run, config, requested, "one"))
    (run.path / CONFIG).unlink()  # as if the kill had come between the two writes
    keep_config(run, config, change_of(run, config, requested, "one"))
    assert len(settings_changes(run)) == 1
    assert run.config() == config


def test_a_bad_override_changes_nothing_and_names_the_projects_file(run: RunFolder, preset: str) -> None:
    made = triggered(run, "one", preset)
    with pytest.raises(ConfigError, match="margin"):
        triggered(run, "two", None, "gate.margin=often")
    assert run.config() == made
    assert len(settings_changes(run)) == 1


def change(round: int, size: int) -> str:
    return f"{{round: {round}, options: {{size: {size}}}}}"


def test_a_planned_change_is_for_a_round_that_has_not_begun(run: RunFolder) -> None:
    planned = f"environment.changes=[{change(3, 5)}]"
    triggered(run, "one", "quickstart", "gate.test=sequential", planned)
    for number in (1, 2, 3):
        (run.path / round_name(number)).mkdir()
    assert triggered(run, "two").environment.changes[0].round == 3
    later = triggered(run, "three", None, f"environment.changes=[{change(3, 5)}, {change(4, 6)}]")
    assert [one.round for one in later.environment.changes] == [3, 4]
    for past in (
        "environment.changes=[]",
        f"environment.changes=[{change(2, 5)}]",
        f"environment.changes=[{change(3, 4)}, {change(4, 6)}]",
    ):
        with pytest.raises(ConfigError, match=r"rounds up to 3 have begun.*config\.yaml: plan .* round 4 or later"):
            triggered(run, "four", None, past)
    assert run.config() == later
