"""What rollouts of several turns cost with keys and values kept, at the shape of Qwen2.5-0.5B.

    python -m tests.benchmarks.rollout_prefix                  # batches of 8 and 16
    python -m tests.benchmarks.rollout_prefix --batch 8 --repeats 5

Episodes of three turns; the first prompt has 500 tokens, of which all episodes share 300, and every turn adds a
response of 24 tokens and an observation of 40. Weights are random and responses always have their full length, so all
sides do the same decoding. The sides take turns within one process:

- *whole*: every prompt is read from its first token;
- *shared*: what the prompts of a batch have in common is read once for all of them, again at every turn;
- *kept*: as a group of episodes is played, from the keys and values that the turn before left.
"""

import argparse
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from oel_core.config.sampling import Sampling
from oel_core.policies.hf import decoding
from oel_core.policies.hf import prefill as prefill_module
from oel_core.policies.hf.decoding import sample_responses
from oel_core.policies.hf.prefix_cache import PrefillCache, default_capacity
from tests.benchmarks.rollout_speed import spread

TURNS, SHARED, FIRST, RESPONSE, OBSERVATION = 3, 300, 500, 24, 40
SAMPLING = Sampling(temperature=1.0, max_tokens=RESPONSE)


def load() -> Qwen2ForCausalLM:
    """Qwen2.5-0.5B's sizes, random weights, float32."""
    config = Qwen2Config(
        vocab_size=151_936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    return Qwen2ForCausalLM(config).eval()


@dataclass
class Timed:
    """Seconds of one side's episodes."""

    whole: float = 0.0
    prefill: float = 0.0


def play(model: Any, batch: int, make_held: Callable[[], PrefillCache], turns: int = TURNS) -> Timed:
    """Plays one group of episodes."""
    source, timed = random.Random(0), Timed()

    def words(count: int) -> list[int]:
        return source.choices(range(1000, 150_000), k=count)

    def clocked(*given: Any) -> Any:
        started = time.perf_counter()
        try:
            return prefill_module.prefill(*given)
        finally:
            timed.prefill += time.perf_counter() - started

    system, held = words(SHARED), make_held()
    prompts = [system + words(FIRST - SHARED) for _ in range(batch)]
    with patch.object(decoding, "prefill", clocked):
        started = time.perf_counter()
        for turn in range(turns):
            seeds = range(turn * batch, (turn + 1) * batch)
            responses = sample_responses(model, prompts, seeds, SAMPLING, [], 0, held)
            prompts = [prompt + said + words(OBSERVATION) for prompt, said in zip(prompts, responses, strict=True)]
        timed.whole = time.perf_counter() - started
    return timed


def sides(model: Any, batch: int) -> dict[str, Callable[[], Timed]]:
    def whole() -> Timed:
        with patch.object(prefill_module, "_can_be_cut", lambda cache: False):
            return play(model, batch, PrefillCache)

    return {
        "whole": whole,
        "shared": lambda: play(model, batch, PrefillCache),
        "kept": lambda: play(model, batch, lambda: PrefillCache.of(default_capacity(model))),
    }


def compare(model: Any, batch: int, repeats: int) -> None:
    found: dict[str, list[Timed]] = {}
    for _ in range(repeats):
        for name, side in sides(model, batch).items():
            found.setdefault(name, []).append(side())
    print(f"{batch} episodes of {TURNS} turns, {torch.get_num_threads()} threads, {repeats} repeats")
    for name, runs in found.items():
        prefill, total = [run.prefill for run in runs], [run.whole for run in runs]
        print(f"  {name:7} prefill {spread(prefill, 's'):28} whole rollout {spread(total, 's')}")
    for name in ("whole", "shared"):
        ratios = [ratio(found[name], found["kept"], part) for part in ("prefill", "whole")]
        print(f"  {name} / kept: prefill {spread(ratios[0], 'times')}, rollout {spread(ratios[1], 'times')}")


def ratio(slow: Sequence[Timed], fast: Sequence[Timed], part: str) -> list[float]:
    """Of runs that took the same turn."""
    return [getattr(a, part) / getattr(b, part) for a, b in zip(slow, fast, strict=True)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    qwen = load()
    play(qwen, 2, PrefillCache, turns=1)  # so that no side pays for the first use of anything
    for size in chosen.batch:
        compare(qwen, size, chosen.repeats)
