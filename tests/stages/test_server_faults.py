"""Collection from a failing server: finished episodes are kept, and a resumed stage plays only the others."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from oel_core import envs
from oel_core.config.run import OelConfig, parse_config
from oel_core.errors import ConfigError, OelError, PolicyError
from oel_core.policies import load_policy, release
from oel_core.rounds.round import Round
from oel_core.runs.folder import RunFolder, open_run
from oel_core.runs.jsonl import read_jsonl
from oel_core.stages.collect import collect, consolidation_plans, extraction_plans
from oel_core.types import Trajectory
from tests.fakes import CORRIDOR, tiny_model_folder
from tests.policies.openai.fake_server import FakeServer, Reply, hang, running

Trouble = Callable[[FakeServer], Reply]


@pytest.fixture(autouse=True)
def _world(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(envs.REGISTRY, *CORRIDOR)
    monkeypatch.setattr("oel_core.policies.openai.client.FIRST_WAIT_S", 0.01)
    yield
    release()


def config(url: str, model: Path, **settings: Any) -> OelConfig:
    openai = {"base_url": url, "concurrency": 4, "retries": 1, "timeout_s": 3.0} | settings
    values: dict[str, Any] = {
        "model": {"path": str(model), "backend": "openai", "max_length": 4096, "openai": openai},
        "environment": {"name": "corridor", "max_turns": 2},
        "collect": {"replicas": 2, "extraction_episodes": 6},
        "distill": {"steps": 2, "episodes_per_step": 4},
        "play": {"sampling": {"max_tokens": 4}},
    }
    return parse_config(values, "test")


def written(run: RunFolder) -> list[Trajectory]:
    (file,) = run.path.glob("round_01/*collect*/trajectories.jsonl")
    return list(read_jsonl(file, Trajectory))


def requests_at_rest(server: FakeServer) -> int:
    """How many it has had once none came for half a second: some that were taken back may still be on their way."""
    seen = -1
    while seen != len(server.generations):
        seen = len(server.generations)
        time.sleep(0.5)
    return seen


@pytest.mark.parametrize(
    ("trouble", "kind", "said"),
    [
        (lambda server: (0, b"", {}), PolicyError, "no connection"),
        (lambda server: (429, {"error": "busy"}, {}), PolicyError, "429: busy"),
        (lambda server: (200, b"not JSON", {}), PolicyError, "cannot be read"),
        (hang, PolicyError, "no answer in 3 s"),
        (lambda server: (404, {"error": "no such model"}, {}), ConfigError, "no such model"),
    ],
    ids=["dies", "busy", "garbage", "hangs", "wrong model"],
)
def test_finished_episodes_are_kept_and_only_the_rest_is_played_again(
    tmp_path: Path, trouble: Trouble, kind: type[OelError], said: str
) -> None:
    model = tiny_model_folder(tmp_path)
    with running(FakeServer()) as server:
        settings = config(server.url, model)
        run = open_run(tmp_path, "run")
        server.trouble = lambda number, body: trouble(server) if number >= 15 else None
        with pytest.raises(kind, match=said):
            collect(Round(settings, run, 1))
        before = written(run)
        assert 0 < len(before) < 20
        assert all(episode.error is None for episode in before)
        server.trouble, asked = (lambda number, body: None), requests_at_rest(server)
        patient = config(server.url, model, retries=3, timeout_s=90.0)  # may be changed: decides no result
        collect(Round(patient, run, 1))
        after = written(run)
        assert len(server.generations) - asked == sum(len(episode.turns) for episode in after[len(before) :])
    assert after[: len(before)] == before
    assert sorted(episode.id for episode in after) == sorted(
        plan.id for plan in extraction_plans(settings, 1) + consolidation_plans(settings, 1)
    )


def test_a_prompt_too_long_for_the_server_ends_that_episode_alone(tmp_path: Path) -> None:
    model = tiny_model_folder(tmp_path)
    with running(FakeServer()) as server:
        settings = config(server.url, model)
        run = open_run(tmp_path, "run")
        said = {"error": {"message": "the request exceeds the available context size"}}
        server.trouble = lambda number, body: (400, said, {}) if number % 5 == 4 else None
        manifest = collect(Round(settings, run, 1))
    failed = [episode for episode in written(run) if episode.error is not None]
    assert manifest.counts["episodes"] == 20
    assert manifest.counts["errors"] == len(failed) > 0
    assert all(
        "PromptTooLongError" in str(episode.error) and "context size" in str(episode.error) for episode in failed
    )


def test_the_shared_policy_asks_a_server_again_that_was_gone(tmp_path: Path) -> None:
    model = tiny_model_folder(tmp_path)
    with running(FakeServer()) as server:
        settings = config(server.url, model).model
        first = load_policy(str(model), settings)
        assert load_policy(str(model), settings) is first
        first.closed = True  # type: ignore[attr-defined]
        assert load_policy(str(model), settings) is not first
