"""What an update cannot go below: every token that must be computed, at the speed of the model's own forward."""

import random
import time
from typing import Any

import torch

from tests.benchmarks.contender import synchronise
from tests.benchmarks.measure import Spread, spread
from tests.benchmarks.workload import FIRST_WORD, Workload

FORWARD_TOKENS = 4_096
"""Tokens of one timed forward, the same as a micro-batch of ours."""


def floor_tokens(workload: Workload) -> float:
    """Forward-equivalents of tokens per sample, 3·S + S + K·P/B: the student's forward and backward (a backward is two
    forwards), the teacher's forward, and each of K knowledge files once for the whole batch."""
    return 4 * workload.own_length + workload.files * workload.knowledge / workload.samples


@torch.no_grad()
def forward_speed(model: Any, workload: Workload, length: int, repeats: int) -> Spread:
    """Tokens per second of plain forwards over sequences of `length`, projected at a response's positions only."""
    source = random.Random(workload.seed)
    rows = max(1, min(workload.samples, FORWARD_TOKENS // length))
    ids = [source.choices(range(FIRST_WORD, workload.shape.vocabulary), k=length) for _ in range(rows)]
    batch = torch.tensor(ids, device=model.device)
    speeds = []
    for _ in range(repeats + 1):
        synchronise()
        started = time.perf_counter()
        with torch.autocast(workload.device, torch.bfloat16, enabled=workload.mixed):
            model(input_ids=batch, use_cache=False, logits_to_keep=min(length, workload.response))
        synchronise()
        speeds.append(rows * length / (time.perf_counter() - started))
    return spread(speeds[1:])  # the first forward warms up


def floor_seconds(workload: Workload, speed: float) -> float:
    """The floor with every token at the speed of sequences as short as a prompt with its response: attention over the
    knowledge is free in it."""
    return floor_tokens(workload) * workload.samples / speed


def floor_seconds_in_context(workload: Workload, speed: float, taught_speed: float) -> float:
    """The floor with the teacher's tokens at the speed of sequences as long as the teacher's."""
    student = 3 * workload.own_length * workload.samples
    teacher = workload.own_length * workload.samples + workload.files * workload.knowledge
    return student / speed + teacher / taught_speed
