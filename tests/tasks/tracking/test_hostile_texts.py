"""Untrusted texts in a real tracking database: unchanged except for hidden characters."""

import contextlib
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from oel_core.config.run import parse_config
from oel_core.errors import PolicyError
from oel_core.gate.promotion import Check
from oel_core.runs.folder import adopt_config, open_run
from oel_core.text.visible import visible
from tasks.tracking import publishing
from tasks.tracking.client import LOOP, Tracker
from tasks.tracking.registry import Registry
from tasks.tracking.settings import TrackingSettings
from tests.builders import episode
from tests.gate.test_promotion import played, rate, results, verdict

HOSTILE = "a\x1b[2J\x1b]8;;https://evil.example\x1b\\\x07\u202eb\u2066\x9bm\u200bz"


@pytest.fixture
def tracker(tmp_path: Path) -> Tracker:
    run = open_run(tmp_path, "run")
    config = parse_config({"description": HOSTILE}, "test")
    adopt_config(run, config)
    found = Tracker(TrackingSettings().resolved(tmp_path, "run"), run)
    found.log_config(config)
    return found


def test_nothing_hidden_reaches_the_tracking_server(tracker: Tracker, tmp_path: Path) -> None:
    with contextlib.suppress(PolicyError), tracker.running(LOOP):
        raise PolicyError(f"a server said {HOSTILE}")
    tracker.describe(LOOP, HOSTILE)
    tracker.log_params(LOOP, {"description": HOSTILE + "2"})  # a change becomes a tag
    (tmp_path / "checkpoint").mkdir()
    tracker.register("1", tmp_path / "checkpoint", "digest")
    registry = Registry(tracker)
    version = registry.version_of_round(1)
    registry.promote(version, id="one", reason=HOSTILE)
    found = verdict(results(3, played(rate(9, 16))), results(0, played(rate(8, 16))))
    checks = (Check(name="better", passed=False, value=0.0, bound=HOSTILE),)
    registry.tag_verdict(version, found.model_copy(update={"checks": checks}))

    client = MlflowClient(tracker.settings.tracking_uri)
    loop = client.get_run(tracker.run_id(LOOP)).data
    model = client.get_registered_model(registry.model)
    texts = [*loop.params.values(), *loop.tags.values(), *model.tags.values()]
    texts += client.get_model_version(registry.model, version.version).tags.values()
    assert [text for text in texts if visible(text) != text] == []
    assert sum("evil.example" in text for text in texts) == 6
    assert registry.history()[0].reason == HOSTILE


def test_a_transcript_is_text_to_read(tracker: Tracker) -> None:
    played_one = episode("e", answers=(HOSTILE,), feedback=HOSTILE)
    tracker.log_text("1", publishing._readable(played_one), "transcripts/e.txt")
    path = tracker.client.download_artifacts(tracker.run_id("1"), "transcripts/e.txt")
    text = Path(path).read_text(encoding="utf-8")
    assert visible(text) == text
    assert visible(HOSTILE) in text
