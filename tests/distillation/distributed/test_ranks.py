"""The division of a step among processes."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from oel_core.config.run import DistillConfig, ModelConfig
from oel_core.distillation.data.dataset import Sample
from oel_core.distillation.distributed.launch import require_devices
from oel_core.distillation.distributed.ranks import SingleProcess, _buckets, divide
from oel_core.distillation.training.rollouts import Rollout
from oel_core.errors import ConfigError


def rollout(index, prompt, response):
    sample = Sample(
        index=index, id=f"t/{index}", prompt=prompt, teacher_prompt=prompt, knowledge_index=0, replica=0, seed=index
    )
    return Rollout(sample, response, truncated=False)


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=30),
    st.integers(1, 5),
)
def test_every_rollout_has_one_process(lengths, count):
    rollouts = [rollout(i, [i] * prompt, [7] * response) for i, (prompt, response) in enumerate(lengths)]
    parts = divide(rollouts, count)
    assert len(parts) == count
    assert sorted(place for part in parts for place in part) == list(range(len(rollouts)))
    tokens = [sum(rollouts[place].length for place in part) for part in parts]
    longest = max(one.length for one in rollouts)
    assert max(tokens) <= sum(tokens) / count + longest


def test_prompts_that_begin_alike_are_read_by_one_process():
    rollouts = [rollout(i, [i % 2] * 50 + [i], [9] * 5) for i in range(8)]
    assert sorted(map(sorted, divide(rollouts, 2))) == [[0, 2, 4, 6], [1, 3, 5, 7]]


def test_buckets_keep_the_order_and_one_type_each():
    tensors = [torch.zeros(3), torch.zeros(2), torch.zeros(2, dtype=torch.bfloat16), torch.zeros(1)]
    found = list(_buckets(tensors))
    assert [[one.numel() for one in bucket] for bucket in found] == [[3, 2], [2], [1]]
    assert list(_buckets([])) == []


def test_a_large_gradient_travels_alone(monkeypatch):
    monkeypatch.setattr("oel_core.distillation.distributed.ranks._BUCKET", 4)
    assert [len(bucket) for bucket in _buckets([torch.zeros(n) for n in (3, 9, 2, 2)])] == [1, 1, 2]


def test_one_process_asks_for_everything():
    samples = [rollout(i, [1], [2]).sample for i in range(3)]
    assert [
        one.sample
        for one in SingleProcess().roll_out(
            samples, lambda part: [replace(rollout(0, [1], [2]), sample=s) for s in part]
        )
    ] == samples


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match="processes is 2, but there are 1 GPUs"):
        require_devices(ModelConfig(), DistillConfig(processes=2))
    require_devices(ModelConfig(device="cpu"), DistillConfig(processes=2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sharding": "fsdp2"}, "set processes to 2 or more"),
        ({"sharding": "fsdp2", "processes": 2, "teacher": "ema"}, "the ema teacher follows whole weights"),
        ({"processes": 0}, "greater than"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ValidationError, match=message):
        DistillConfig(**settings)
