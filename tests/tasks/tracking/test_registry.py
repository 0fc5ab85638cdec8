"""The champion in a real MLflow registry: promotion, rollback, and consistency after a kill between any two writes."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from oel_core.config.operation import GateConfig
from oel_core.config.run import OelConfig
from oel_core.errors import ArtifactError, ConfigError
from oel_core.gate.promotion import bootstrap_verdict
from oel_core.runs.folder import RunFolder, adopt_config, open_run
from tasks.tracking.client import Tracker
from tasks.tracking.registry import Registry, Version, registry_of
from tasks.tracking.settings import TrackingSettings
from tests.gate.test_promotion import played, rate, results

STEPS = ("intent", "previous", "champion", "event", "done")


class Killed(BaseException):
    """Stands in for a kill: nothing catches it."""


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One database for all tests here: setting one up takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('tracking')}/mlflow.db"


def run_of(tmp_path: Path, name: str) -> RunFolder:
    folder = open_run(tmp_path, name)
    adopt_config(folder, OelConfig())
    return folder


def registered(tracker: Tracker, rounds: int) -> None:
    for number in range(1, rounds + 1):
        checkpoint = tracker.run.path / f"{number}"
        checkpoint.mkdir(parents=True, exist_ok=True)
        tracker.register(str(number), checkpoint, f"digest{number}")


@pytest.fixture(scope="module")
def three(database: str, tmp_path_factory: pytest.TempPathFactory) -> Tracker:
    """Of a run with three registered rounds."""
    root = tmp_path_factory.mktemp("runs")
    settings = TrackingSettings(tracking_uri=database, artifact_location=(root / "a").as_uri())
    tracker = Tracker(settings.resolved(root, "run"), run_of(root, "run"))
    registered(tracker, 3)
    return tracker


@pytest.fixture
def tracker(three: Tracker) -> Tracker:
    """The same with no champion and no history."""
    model = str(three.settings.registered_model)
    found = three.client.get_registered_model(model)
    for alias in set(found.aliases) - {"candidate"}:
        three.client.delete_registered_model_alias(model, alias)
    for tag in found.tags:
        three.client.delete_registered_model_tag(model, tag)
    return three


@pytest.fixture
def registry(tracker: Tracker) -> Registry:
    return Registry(tracker)


def of(registry: Registry, round_index: int) -> Version:
    return registry.version_of_round(round_index)


def state(registry: Registry) -> tuple[int | None, int | None]:
    """Rounds of champion and previous."""
    return tuple(  # type: ignore[return-value]
        found.round if found is not None else None for found in map(registry.aliased, ("champion", "previous"))
    )


def promote(registry: Registry, *rounds: int) -> None:
    for number in rounds:
        registry.promote(of(registry, number), id=f"round-{number}", reason="better")


def test_promotions_move_both_aliases_and_are_remembered(registry: Registry) -> None:
    assert registry.champion() is None
    promote(registry, 1)
    assert state(registry) == (1, None)
    promote(registry, 3)
    assert state(registry) == (3, 1)
    assert [(move.action, move.champion, move.replaced) for move in registry.history()] == [
        ("promote", of(registry, 1).version, None),
        ("promote", of(registry, 3).version, of(registry, 1).version),
    ]
    assert of(registry, 3).aliases == ("candidate", "champion")


def test_rolling_back_walks_down_to_the_presets_model(registry: Registry) -> None:
    promote(registry, 1, 2, 3)
    for expected in [(2, 1), (1, None), (None, None)]:
        registry.rollback(reason="worse in the field")
        assert state(registry) == expected
    with pytest.raises(ConfigError, match="no champion to roll back"):
        registry.rollback(reason="again")


def test_what_was_rolled_back_is_not_what_the_next_rollback_returns_to(registry: Registry) -> None:
    promote(registry, 1, 2)
    registry.rollback(reason="bad")
    promote(registry, 3)
    assert state(registry) == (3, 1)
    registry.rollback(reason="bad too")
    assert state(registry) == (1, None)


def test_the_same_promotion_is_done_once_even_after_a_rollback(registry: Registry) -> None:
    promote(registry, 1, 2)
    registry.rollback(reason="bad")
    promote(registry, 2)
    assert state(registry) == (1, None)
    assert len(registry.history()) == 3


def test_a_champion_that_changed_in_the_meantime_is_not_replaced(registry: Registry) -> None:
    promote(registry, 1, 2)
    with pytest.raises(ArtifactError, match=r"became champion of .* in the meantime"):
        registry.promote(of(registry, 3), id="late", reason="", expected=of(registry, 1).version)
    with pytest.raises(ArtifactError, match=r"compared with \(the preset model\)"):
        registry.promote(of(registry, 3), id="late", reason="", expected=None)
    assert state(registry) == (2, 1)


@pytest.mark.parametrize(
    ("action", "moment"), [*(("promote", step) for step in STEPS), ("rollback", "previous"), ("rollback", "champion")]
)
def test_a_kill_between_any_two_writes_is_repaired(tracker: Tracker, action: str, moment: str) -> None:
    promote(Registry(tracker), 1, 2)

    def kill(step: str) -> None:
        if step == moment:
            raise Killed

    dying = Registry(tracker, on_step=kill)
    acts: dict[str, Callable[[], object]] = {
        "promote": lambda: promote(dying, 3),
        "rollback": lambda: dying.rollback(reason="bad"),
    }
    with pytest.raises(Killed):
        acts[action]()
    before, after = (2, 1), (3, 2) if action == "promote" else (1, None)
    champion = Registry(tracker).champion()
    assert champion is not None
    assert champion.round in (before[0], after[0])
    healed = Registry(tracker)
    healed.reconcile()
    assert state(healed) == (before if moment == "intent" else after)
    assert len(healed.history()) == (2 if moment == "intent" else 3)
    assert healed.reconcile() is None
    if action == "promote":
        promote(healed, 3)
        assert state(healed) == after
        assert len(healed.history()) == 3


def _die(uri: str, root: Path, name: str, moment: str) -> None:
    settings = TrackingSettings(tracking_uri=uri).resolved(root, name)
    kill = lambda step: os.kill(os.getpid(), signal.SIGKILL) if step == moment else None  # noqa: E731
    promote(Registry(Tracker(settings, RunFolder(root / name)), on_step=kill), 3)


@pytest.mark.slow
@pytest.mark.parametrize("moment", STEPS)
def test_a_killed_process_leaves_no_half_champion(tracker: Tracker, moment: str) -> None:
    """The real thing: another process, SIGKILL, its lease still there."""
    promote(Registry(tracker), 1, 2)
    place = tracker.run.path
    arguments = (tracker.settings.tracking_uri, place.parent, place.name, moment)
    process = multiprocessing.get_context("spawn").Process(target=_die, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert (place / ".registry.json").exists()
    healed = Registry(tracker)
    promote(healed, 3)
    assert state(healed) == (3, 2)
    assert [move.number for move in healed.history()] == [1, 2, 3]


def test_every_figure_of_the_gate_becomes_a_tag(registry: Registry) -> None:
    sides = results(3, played(rate(90)), s=rate(40)), results(1, played(rate(20)), s=rate(90))
    registry.tag_verdict(of(registry, 3), bootstrap_verdict(GateConfig(), *sides, sides[1], seed=0))
    tags = of(registry, 3).tags
    assert tags["oel.gate"] == "refuse"
    assert tags["oel.gate.difference"] == "+0.5469"
    assert tags["oel.gate.probability"] == "1.0000"
    assert tags["oel.gate.check.ood.s"].startswith("REFUSED: -0.3906, at least -0.05")


def test_a_champion_of_another_run_and_a_missing_model_are_said(database: str, tmp_path: Path) -> None:
    shared = TrackingSettings(tracking_uri=database, registered_model="shared")
    trackers = [Tracker(shared.resolved(tmp_path, name), run_of(tmp_path, name)) for name in ("first", "second")]
    registered(trackers[0], 1)
    promote(Registry(trackers[0]), 1)
    with pytest.raises(ArtifactError, match="belongs to run 'first', not to 'second'"):
        Registry(trackers[1]).champion()
    with pytest.raises(ConfigError, match="round 1 of second is not registered: registered are none"):
        of(Registry(trackers[1]), 1)
    nothing = TrackingSettings(tracking_uri=database, registered_model=None)
    with pytest.raises(ConfigError, match="registered_model is null"):
        registry_of(nothing, trackers[0].run)
