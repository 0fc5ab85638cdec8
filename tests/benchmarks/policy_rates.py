"""Prefill and decoding rates of the transformers policy on a pretrained model.

    python -m tests.benchmarks.policy_rates --dtype bfloat16

Prompts are random tokens without a common beginning, responses always have their full length. Seconds of a decoding
step are the difference between responses of 1 and of 1 + `STEPS` tokens, divided by `STEPS`.
"""

import argparse
import random
import statistics
import time
from collections.abc import Sequence
from typing import Any

from oel_core.config.run import ModelConfig
from oel_core.config.sampling import Sampling
from oel_core.models.loading import load_model
from oel_core.policies.hf.decoding import sample_responses
from tests.benchmarks.measure import Spread, machine, spread
from tests.benchmarks.report import table

STEPS = 24
FIRST = 4
"""Least token id that is drawn: below it vocabularies have padding and ends."""


def seconds(model: Any, rows: int, prompt: int, tokens: int) -> float:
    """Seconds for `rows` prompts of `prompt` tokens with responses of `tokens` tokens."""
    source = random.Random(0)
    prompts = [source.choices(range(FIRST, model.config.vocab_size), k=prompt) for _ in range(rows)]
    started = time.perf_counter()
    sample_responses(model, prompts, range(rows), Sampling(temperature=1.0, max_tokens=tokens), [], 0)
    return time.perf_counter() - started


def rates(model: Any, rows: int, prompt: int, repeats: int) -> tuple[Spread, Spread, float]:
    """Prefill in tokens/s, a decoding step in seconds, and decoded tokens/s at its median."""
    prefill, step = [], []
    for _ in range(repeats):
        first = seconds(model, rows, prompt, 1)
        prefill.append(rows * prompt / first)
        step.append((seconds(model, rows, prompt, 1 + STEPS) - first) / STEPS)
    return spread(prefill), spread(step), rows / statistics.median(step)


def run(path: str, config: ModelConfig, rows: Sequence[int], prompt: int, repeats: int) -> str:
    """The table: one line for each number of rows."""
    model, _ = load_model(path, config)
    seconds(model, 1, prompt, 2)
    cells = []
    for count in rows:
        prefill, step, tokens = rates(model, count, prompt, repeats)
        cells.append([count, prefill, step, f"{tokens:.0f}"])
    return table(["rows", "prefill tokens/s", "decoding step s", "decoded tokens/s"], cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="qwen2.5-coder-0.5b", help="a fetched model's name, a folder or a hub id")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 16, 32])
    parser.add_argument("--prompt", type=int, default=256, help="tokens of a prompt")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    config = ModelConfig(path=options.model, dtype=options.dtype)
    print(run(options.model, config, options.rows, options.prompt, options.repeats))
    print(", ".join(f"{name} {value}" for name, value in machine("cpu").items()))


if __name__ == "__main__":
    main()
