"""The recurring round in one process: kills between verdict and end, and changing projects."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.sorting import FlowRunSort
from prefect.testing.utilities import prefect_test_harness

from flows import next_round as module
from flows.next_round import next_round
from oel_core.config.run import OelConfig, dump_config, parse_config
from oel_core.errors import DistillationError, ExtractionError, PolicyError
from oel_core.gate.ledger import read_ledger
from oel_core.gate.promotion import Verdict, bootstrap_verdict
from oel_core.projects.review import Decision, decide
from oel_core.projects.settings import RequestedSettings, settings_changes
from oel_core.projects.triggers import Trigger, outcome_of, read_trigger
from oel_core.rounds.round import Round
from oel_core.runs.folder import RunFolder
from oel_core.runs.jsonl import read_jsonl
from oel_core.stages import gate
from oel_core.types import Trajectory
from tasks.tracking.registry import registry_of
from tasks.tracking.settings import TrackingSettings
from tests.e2e.loop import short_config
from tests.fakes import tiny_model_folder

pytestmark = pytest.mark.slow


class Killed(BaseException):
    """Stands in for a kill: nothing catches it."""


@pytest.fixture(scope="module", autouse=True)
def _server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=300):
        yield


@pytest.fixture(autouse=True)
def _every_candidate_is_better(monkeypatch: pytest.MonkeyPatch) -> None:
    """A random model learns nothing that a gate would let through."""

    def promoted(*arguments: Any, **options: Any) -> Verdict:
        return bootstrap_verdict(*arguments, **options).model_copy(update={"promote": True})

    monkeypatch.setattr(gate, "bootstrap_verdict", promoted)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_folder(tmp_path_factory.mktemp("model"))


def changed(config: OelConfig, **sections: Any) -> OelConfig:
    """With some fields of some sections set."""
    values = config.model_dump(mode="json")
    for section, fields in sections.items():
        values[section] |= fields
    return parse_config(values, "test")


def settings(root: Path) -> TrackingSettings:
    return TrackingSettings(tracking_uri=f"sqlite:///{root}/mlflow.db", artifact_location=(root / "artifacts").as_uri())


def triggered(config: OelConfig | None, root: Path, id: str, *overrides: str) -> Trigger:
    """Names a preset with these settings, or none."""
    path = root / "named.yaml"
    if config is not None:
        path.write_text(dump_config(config))
    requested = RequestedSettings(preset=str(path) if config is not None else None, overrides=overrides)
    return next_round(requested, "project", id, root, settings(root))


def states() -> list[tuple[str, str]]:
    """Name and type of the last state of every flow run of a project's round since the module began, oldest first."""
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=["next-round"])), sort=FlowRunSort.EXPECTED_START_TIME_ASC
        )
    return [(run.state.name or "", run.state.type.value) for run in found if run.state is not None]


def champion(root: Path) -> int:
    found = registry_of(settings(root), RunFolder(root / "project")).champion()
    return found.round if found is not None else 0


def test_a_project_goes_on_after_a_kill_and_after_its_settings_changed(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run = short_config(model, rounds=1), RunFolder(tmp_path / "project")

    def kill(*arguments: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(module, "promote", kill)
        with pytest.raises(Killed):
            triggered(config, tmp_path, "killed")
    assert run.has(1, "gate")
    assert champion(tmp_path) == 0
    assert outcome_of(run, 1) is None

    with monkeypatch.context() as patch:
        patch.setattr(module, "set_run_threads", kill)  # what comes after the settings have been taken over
        with pytest.raises(Killed):
            triggered(None, tmp_path, "changed", "gate.margin=0.02")
    assert run.config().gate.margin == 0.02

    found = triggered(None, tmp_path, "another")  # the project knows its settings
    assert states()[-1] == ("Promoted", "COMPLETED")
    assert (found.outcome, found.round, found.champion, champion(tmp_path)) == ("promoted", 1, 1, 1)
    again = triggered(config, tmp_path, "killed")
    assert (again.id, again.outcome, again.round) == ("killed", "promoted", 1)
    assert run.rounds() == [0, 1]

    more = {**config.evaluate.ood, "swapped_roles": {"episodes": 4}}
    later = changed(
        config,
        collect={"replicas": 3},
        evaluate={"ood": more},
        knowledge={"selection": {"use": "best", "episodes": 2}},
    )
    found = triggered(later, tmp_path, "later")
    assert (found.outcome, found.round) == ("promoted", 2)
    assert all(run.has(number, "evaluate/ood/swapped_roles") for number in (0, 1, 2))
    assert [change.trigger for change in settings_changes(run)] == ["killed", "changed", "later"]
    assert settings_changes(run)[1].changes == ("gate.margin: 0.0 → 0.02",)
    assert "collect.replicas: 2 → 3" in settings_changes(run)[2].changes


def test_the_same_error_twice_ends_a_round_and_a_hiccup_never_does(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run = short_config(model, rounds=1), RunFolder(tmp_path / "project")
    errors: list[Exception] = [
        PolicyError("away"),
        PolicyError("away"),
        IndexError("x"),
        IndexError("y"),
        IndexError("x"),
    ]

    def broken(*arguments: object) -> None:
        raise errors.pop(0)

    monkeypatch.setattr(module, "learning_round", broken)
    monkeypatch.setattr(module, "_measure", lambda *arguments: None)
    for attempt in range(5):
        assert outcome_of(run, 1) is None
        with pytest.raises((PolicyError, IndexError)):
            triggered(config, tmp_path, f"t{attempt}")
    ended = outcome_of(run, 1)
    assert ended is not None
    assert (ended.outcome, ended.detail) == ("failed", "IndexError: x")
    errors.append(DistillationError("a loss that is not a number"))
    with pytest.raises(DistillationError):
        triggered(config, tmp_path, "next")
    assert read_trigger(run, "next") == outcome_of(run, 2)


def test_a_round_that_nobody_has_decided_about_stays_open(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run = short_config(model, rounds=1), RunFolder(tmp_path / "project")
    requested = changed(config, review={"mode": "required"})
    monkeypatch.setattr("flows.learning_round.wait_for_review", lambda *arguments: None)  # the time is over
    found = triggered(requested, tmp_path, "one")
    assert (found.outcome, found.round, found.over) == ("undecided", 1, False)
    assert "waits for review" in found.detail
    assert states()[-1] == ("AwaitingReview", "CANCELLED")
    assert read_trigger(run, "one") == found
    assert outcome_of(run, 1) is None
    decide(Round(requested, run, 1), Decision(decision="reject", author="ann", via="oel review", decided_at=1.0))
    with pytest.raises(ExtractionError, match=r"rejected by ann\. The next trigger begins another round"):
        triggered(requested, tmp_path, "two")
    ended = outcome_of(run, 1)
    assert ended is not None
    assert ended.outcome == "failed"
    again = triggered(requested, tmp_path, "one")
    assert (again.outcome, run.rounds()) == ("failed", [0, 1])
    assert states()[-2:] == [("Failed", "FAILED")] * 2


def test_a_round_by_trial_that_is_killed_at_its_end_counts_one_trial(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = {"test": "sequential", "sequential": {"block_episodes": 4, "most_episodes": 8}}
    config, run = changed(short_config(model, rounds=1), gate=trial), RunFolder(tmp_path / "project")

    def kill(*arguments: object, **options: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(module, "create_markdown_artifact", kill)
        with pytest.raises(Killed):
            triggered(config, tmp_path, "killed")
    ended = triggered(None, tmp_path, "killed")
    assert ended.outcome == "refused"
    (found,) = read_ledger(run).trials
    assert (found.candidate, found.champion, found.promoted) == (1, 0, False)
    version = registry_of(settings(tmp_path), run).version_of_round(1)
    assert version.tags["oel.gate.trial"] == "1"


def test_rules_that_change_between_two_rounds_are_those_of_the_second_trial(model: Path, tmp_path: Path) -> None:
    symbols = {"hole": "G", "trap": "X", "key": "K", "goal": "H"}
    config = changed(
        short_config(model, rounds=1),
        gate={"test": "sequential", "sequential": {"block_episodes": 4, "most_episodes": 8}},
        environment={"changes": [{"round": 2, "options": {"symbols": symbols}}]},
    )
    for number in (1, 2):
        assert triggered(config if number == 1 else None, tmp_path, f"t{number}").outcome == "refused"
    run = RunFolder(tmp_path / "project")
    for number, holes in ((1, "H"), (2, "G")):
        for model_number in (0, number):  # two holes and one goal
            path = run.stage_path(number, "gate") / f"held_out/round_{model_number:02d}.jsonl"
            boards = [one.turns[0].messages[-1].content for one in read_jsonl(path, Trajectory)]
            assert {max("HG", key=board.count) for board in boards} == {holes}
    assert [(one.candidate, one.champion) for one in read_ledger(run).trials] == [(1, 0), (2, 0)]
