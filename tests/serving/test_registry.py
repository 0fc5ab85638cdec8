"""The champion of a real registry is what the gateway looks up, and a promotion reaches a gateway that runs."""

import shutil
from pathlib import Path

import pytest

from flows.cli.services.serve import champion_of
from oel_core.config.operation import DeploymentConfig, GateConfig
from oel_core.config.run import load_config
from oel_core.gate.promotion import Check
from oel_core.runs.folder import RunFolder, adopt_config, open_run, stage_key
from oel_core.seed_lm import WEIGHTS
from oel_core.serving.answering.champion import Champion, Registered
from tasks.tracking.client import tracker_of
from tasks.tracking.registry import Registry, registry_of
from tasks.tracking.settings import TrackingSettings
from tests.gate.test_promotion import played, rate, results, verdict
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
    base = lookup().champion
    assert (base.path, base.version.rpartition("-")[0]) == ("seed-lm", "lake-base")
    registry.promote(registry.version_of_round(1), id="a", reason="better")
    first = lookup().champion
    assert first.path == str(run.stage_path(1, "distill") / "checkpoint")
    assert first.version.startswith("lake-1-")
    registry.rollback(reason="worse")
    assert lookup() == Registered(base)


def test_a_candidate_is_what_the_gate_refuses_for_the_deployments_sake_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run, registry = registered(tmp_path)
    config = run.config().model_copy(update={"gate": GateConfig(deployment=DeploymentConfig(use="canary"))})
    lookup, version = champion_of(run, config), registry.version_of_round(1)

    def judged(**passed: bool) -> Champion | None:
        checks = tuple(Check(name=name, passed=ok, value=0.0, bound="1") for name, ok in passed.items())
        found = verdict(results(1, played(rate(90))), results(0, played(rate(20))))
        registry.tag_verdict(version, found.model_copy(update={"checks": checks}))
        return lookup().candidate

    assert lookup().candidate is None, "the gate has not judged it yet"
    assert judged(better=False, deployment=False) is None
    assert judged(better=True, deployment=True) is None
    found = judged(better=True, deployment=False)
    assert found is not None
    assert found.version.startswith("lake-1-")
    assert champion_of(run, run.config())().candidate is None, "the gate does not ask for a deployment"
    registry.promote(version, id="a", reason="by hand")
    assert lookup().candidate is None
    registry.rollback(reason="worse")
    assert lookup().candidate is None, "it was champion once"


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
