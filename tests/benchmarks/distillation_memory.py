"""Peak memory of our update against TRL's SDFTTrainer, each in a fresh process, beyond the loaded models.

    python -m tests.benchmarks.distillation_memory

Counted are gradients, optimiser state, activations, logits and our cached knowledge; not the weights of student and
teacher, which both hold alike.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.benchmarks.measure import MEGABYTE, machine
from tests.benchmarks.probe import measure_apart
from tests.benchmarks.report import DEFAULT_FOLDER, publish, table
from tests.benchmarks.workload import Workload

NAME = "distillation_memory"
UPDATES = 2
"""Updates in each process: the second one holds the optimiser's state from its start."""


@dataclass(frozen=True)
class MemoryRow:
    """One contender."""

    contender: str
    workload: Workload
    peak_bytes: int
    """0 where the memory that the process had already was enough."""
    ours_bytes: int

    @property
    def cells(self) -> list[object]:
        share = f"{self.ours_bytes / self.peak_bytes:.2f}" if self.peak_bytes else "-"
        return [self.contender, self.workload.knowledge, f"{self.peak_bytes / MEGABYTE:.0f}", share]


def measure(workload: Workload, peer_micro_batches: Sequence[int]) -> list[MemoryRow]:
    """Ours once, and the peer with each of its micro-batches."""
    ours = measure_apart("ours-kept", workload, UPDATES).peak_bytes
    rows = [MemoryRow("ours", workload, ours, ours)]
    for size in peer_micro_batches:
        peer = replace(workload, peer_micro_batch=size)
        peak = measure_apart("sdft", peer, UPDATES).peak_bytes
        rows.append(MemoryRow(f"SDFT, {size} samples a forward", peer, peak, ours))
    return rows


def run(workload: Workload, knowledge: Sequence[int], peers: Sequence[int], out: Path, name: str = NAME) -> None:
    """All knowledge lengths; table and JSON go to `out`."""
    rows = [row for length in knowledge for row in measure(replace(workload, knowledge=length), peers)]
    columns = ["contender", "knowledge", "peak MB", "ours / this"]
    publish(name, out, machine(workload.device), rows, table(columns, [row.cells for row in rows]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--knowledge", type=int, nargs="+", default=[8_192])
    parser.add_argument("--peer-micro-batch", type=int, nargs="+", default=[8, 1])
    parser.add_argument("--out", type=Path, default=DEFAULT_FOLDER)
    options = parser.parse_args()
    run(Workload(), options.knowledge, options.peer_micro_batch, options.out)


if __name__ == "__main__":
    main()
