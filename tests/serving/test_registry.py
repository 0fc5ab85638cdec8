"""The champion of a real registry is what the gateway looks up, and a promotion reaches a gateway that runs."""

import shutil
from pathlib import Path

import pytest

from flows.cli.services.serve import champion_of
from oel_core.config.run import load_config
from oel_core.runs.folder import RunFolder, adopt_config, open_run, stage_key
from oel_core.seed_lm import WEIGHTS
from tasks.tracking.client import tracker_of
from tasks.tracking.registry import Registry, registry_of
from tasks.tracking.settings import TrackingSettings
from tests.serving.process import serve
from tests.serving.running import eventually


def registered(root: Path) -> tuple[RunFolder, Registry]:
    """A project with one finished round, whose model is the embedded one, and that is registered."""
    run = open_run(root, "lake")
    config = load_config("tiny", [f"experience.inbox={root / 'inbox'}", "serve.refresh_s=0.2"])
    adopt_config(run, config)

    def weights(folder: Path) -> dict[str, float]:
        shutil.copytree(WEIGHTS, folder / "checkpoint", dirs_exist_ok=True)
        return {}

    run.perform(stage_key(config, 1, "distill", ["seed"], {}), weights)
    checkpoint, digest = run.stage_path(1, "distill") / "checkpoint", run.manifest(1, "distill").digest
    tracker_of(TrackingSettings(), run).register("1", checkpoint, digest)
    return run, registry_of(TrackingSettings(), run)


def test_the_champion_is_the_presets_model_then_the_promoted_one_then_again_the_presets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run, registry = registered(tmp_path)
    lookup = champion_of(run, run.config())
    base = lookup()
    assert (base.path, base.version.rpartition("-")[0]) == ("seed-lm", "lake-base")
    registry.promote(registry.version_of_round(1), id="a", reason="better")
    first = lookup()
    assert first.path == str(run.stage_path(1, "distill") / "checkpoint")
    assert first.version.startswith("lake-1-")
    registry.rollback(reason="worse")
    assert lookup() == base


@pytest.mark.slow
def test_a_promotion_and_a_rollback_reach_a_gateway_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _, registry = registered(tmp_path)
    gateway = serve(tmp_path, "lake", "--port", "0")
    client = gateway.client()

    def version() -> str:
        messages = [{"role": "user", "content": "A board."}]
        answer = client.chat.completions.create(model="lake", messages=messages, max_tokens=4)  # type: ignore[arg-type]
        return str(answer.system_fingerprint)

    try:
        assert version().startswith("lake-base-")
        registry.promote(registry.version_of_round(1), id="a", reason="better")
        eventually(lambda: version().startswith("lake-1-"))
        registry.rollback(reason="worse")
        eventually(lambda: version().startswith("lake-base-"))
    finally:
        assert gateway.stop() == 0
