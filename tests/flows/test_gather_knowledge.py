"""A project whose rounds are trained elsewhere: gathered, bundled, distilled, adopted, and through the gate."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.testing.utilities import prefect_test_harness

from flows.gather_knowledge import gather_knowledge
from flows.next_round import next_round
from oel_core.bundles.making import make_bundle
from oel_core.config.run import dump_config, parse_config
from oel_core.projects.settings import RequestedSettings
from oel_core.rounds.round import Round
from oel_core.runs.folder import RunFolder, open_run
from oel_core.stages.exchange.adopt import adopt
from oel_core.stages.round import run_round
from tasks.tracking.settings import TrackingSettings
from tests.e2e.loop import short_config
from tests.fakes import tiny_model_folder

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def _server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=300):
        yield


def test_a_round_is_gathered_here_trained_there_and_decided_here(tmp_path: Path) -> None:
    tracking = TrackingSettings(
        tracking_uri=f"sqlite:///{tmp_path}/mlflow.db", artifact_location=(tmp_path / "artifacts").as_uri()
    )
    config = short_config(tiny_model_folder(tmp_path), rounds=1)
    (tmp_path / "named.yaml").write_text(dump_config(config))
    requested = RequestedSettings(preset=str(tmp_path / "named.yaml"))
    begun = gather_knowledge(requested, "project", "first", tmp_path, tracking)
    assert (begun.outcome, begun.round) == ("begun", 1)
    assert gather_knowledge(requested, "project", "again", tmp_path, tracking).round == 1
    run = RunFolder(tmp_path / "project")
    assert not run.has(1, "distill")

    here = Round(run.config(), run, 1)
    bundle = make_bundle(here, tmp_path / "a.zip")
    values: dict[str, Any] = config.model_dump(mode="json")
    values["experience"]["bundle"] = str(bundle.path)
    values["collect"]["replicas"] = bundle.manifest.replicas
    values["knowledge"]["selection"]["use"], values["knowledge"]["saturation"]["every"] = "all", None
    there = Round(parse_config(values, "test"), open_run(tmp_path, "server"), 1)
    run_round(there)

    adopt(here, there.stage("distill").path)
    ended = next_round(RequestedSettings(), "project", "gate", tmp_path, tracking)
    assert (ended.outcome, ended.round) in (("promoted", 1), ("refused", 1))
    assert run.has(1, "evaluate/held_out")
    assert (run.stage_path(1, "distill") / "origin.json").is_file()
