"""Whole models handed to vLLM before each step; adapters share an engine in `test_vllm_real.py`."""

from pathlib import Path

import pytest

from oel_core.config.run import ModelConfig, VllmConfig
from oel_core.models.checkpoints import SEED_LM
from oel_core.policies.hf.policy import TransformersPolicy
from tests.distillation.real_engine import same_greedy_answers, trained
from tests.policies.real_prompts import GREEDY, real_requests

pytestmark = pytest.mark.vllm

MODEL = ModelConfig(
    device="cpu",
    max_length=1024,
    backend="vllm",
    vllm=VllmConfig(eager=True, cache_gib=0.25, max_sequences=16),
)


def test_after_an_optimiser_step_the_engine_is_the_updated_student(tmp_path: Path) -> None:
    requests = real_requests(8)
    student, sampler, prompts = trained(MODEL, tmp_path, requests, learning_rate=1e-3)
    said = same_greedy_answers(student, sampler, prompts)
    before = [list(one.response_ids) for one in TransformersPolicy.load(SEED_LM, MODEL).generate(requests, GREEDY)]
    assert said != before
    sampler.close()
    assert not list(tmp_path.glob(".rollouts*"))
