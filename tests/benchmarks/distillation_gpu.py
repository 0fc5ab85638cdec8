"""The update at Qwen3-1.7B shapes on a GPU: ratio to TRL's SDFTTrainer, peak memory, model FLOP utilisation.

    python -m tests.benchmarks.distillation_gpu

Random weights, float32 with bfloat16 maths, knowledge 8,192, 64 samples, response 256. Each contender runs in a fresh
process. The code runs on a CPU too, at tiny sizes, in the tests.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from tests.benchmarks.flops import peak_flops, update_flops
from tests.benchmarks.measure import MEGABYTE, Spread, machine, spread
from tests.benchmarks.probe import CONTENDERS, measure_apart
from tests.benchmarks.report import DEFAULT_FOLDER, publish, table
from tests.benchmarks.workload import ModelShape, Workload

NAME = "distillation_gpu"
QWEN3_1_7B = ModelShape(
    hidden=2_048,
    layers=28,
    heads=16,
    kv_heads=8,
    head_dim=128,
    intermediate=6_144,
    vocabulary=151_936,
    initial_std=0.02,
)


@dataclass(frozen=True)
class GpuRow:
    """One contender."""

    contender: str
    workload: Workload
    seconds: Spread
    peak_bytes: int
    """Beyond the loaded models."""
    flops: float
    """That the mathematics of this update asks for."""
    utilisation: float | None
    """Share of the device's dense bfloat16 operations; None if those are unknown."""


def measure(workload: Workload, repeats: int, device_flops: float | None) -> list[GpuRow]:
    """All contenders, one after the other; the first update of each warms up."""
    rows = []
    for name in CONTENDERS:
        found = measure_apart(name, workload, repeats + 1)
        seconds = spread(found.seconds[1:])
        flops = update_flops(workload, knowledge_files=0 if name == "ours-kept" else workload.files)
        utilisation = flops / seconds.median / device_flops if device_flops else None
        rows.append(GpuRow(name, workload, seconds, found.peak_bytes, flops, utilisation))
    return rows


def as_markdown(rows: Sequence[GpuRow]) -> str:
    """One line a contender, with its ratios to the peer."""
    peer = next(row for row in rows if row.contender == "sdft")
    return table(
        ["contender", "seconds", "SDFT / this", "peak MB", "this / SDFT", "useful TFLOP", "utilisation %"],
        [
            [
                row.contender,
                row.seconds,
                f"{peer.seconds.median / row.seconds.median:.2f}",
                f"{row.peak_bytes / MEGABYTE:.0f}",
                f"{row.peak_bytes / peer.peak_bytes:.2f}",
                f"{row.flops / 1e12:.1f}",
                "-" if row.utilisation is None else f"{100 * row.utilisation:.1f}",
            ]
            for row in rows
        ],
    )


def run(workload: Workload, repeats: int, out: Path, device_flops: float | None) -> list[GpuRow]:
    """All contenders; table and JSON go to `out`."""
    rows = measure(workload, repeats, device_flops)
    publish(NAME, out, machine(workload.device), rows, as_markdown(rows))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peer-micro-batch", type=int, default=8)
    parser.add_argument("--peak-tflops", type=float, help="dense bfloat16 peak of the device, if it is not known here")
    parser.add_argument("--out", type=Path, default=DEFAULT_FOLDER)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("no CUDA device: this benchmark's sizes need a GPU (distillation_speed is the one for CPUs)")
    known = options.peak_tflops * 1e12 if options.peak_tflops else peak_flops(torch.cuda.get_device_name())
    workload = Workload(
        shape=QWEN3_1_7B,
        samples=64,
        prompt=160,
        response=256,
        knowledge=8_192,
        device="cuda",
        mixed=True,
        peer_micro_batch=options.peer_micro_batch,
    )
    run(workload, options.repeats, options.out, known)


if __name__ == "__main__":
    main()
