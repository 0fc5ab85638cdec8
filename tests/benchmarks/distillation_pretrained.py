"""Our update against TRL's SDFTTrainer on the weights of a pretrained model: seconds and peak memory.

    python -m tests.benchmarks.distillation_pretrained --knowledge 512 2048 --dtype bfloat16

Full fine-tuning of the model by both, on samples of random tokens. Each contender has a process of its own, since two
such models with their optimisers rarely fit side by side; contenders take turns. The first update of a process, which
allocates the optimiser's state, is not timed. bfloat16 needs a processor that multiplies in it (AMX or AVX-512 BF16).
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from oel_core.models.checkpoints import resolve_model
from tests.benchmarks.measure import MEGABYTE, Spread, machine, spread
from tests.benchmarks.probe import CONTENDERS, Probe, measure_apart
from tests.benchmarks.report import DEFAULT_FOLDER, publish, table
from tests.benchmarks.workload import Workload, pretrained_workload

NAME = "distillation_pretrained"
TIMED = 2
"""Timed updates of each process."""


@dataclass(frozen=True)
class Row:
    """One contender at one knowledge length."""

    contender: str
    workload: Workload
    seconds: Spread
    ratio: float
    """Median seconds of SDFT over those of this contender."""
    peak_bytes: int
    """Largest of its processes, beyond the loaded models."""

    @property
    def cells(self) -> list[object]:
        """A row of the table."""
        name = {"ours": "ours", "ours-kept": "ours, knowledge kept", "sdft": "SDFT"}[self.contender]
        return [self.workload.knowledge, name, self.seconds, f"{self.ratio:.2f}", f"{self.peak_bytes / MEGABYTE:.0f}"]


def measure(workload: Workload, repeats: int) -> list[Row]:
    """All contenders, `repeats` processes of each, by turns."""
    probes: dict[str, list[Probe]] = {name: [] for name in CONTENDERS}
    for _ in range(repeats):
        for name in CONTENDERS:
            probes[name].append(measure_apart(name, workload, 1 + TIMED))
    times = {name: spread([one for probe in found for one in probe.seconds[1:]]) for name, found in probes.items()}
    return [
        Row(
            name,
            workload,
            times[name],
            times["sdft"].median / times[name].median,
            max(probe.peak_bytes for probe in found),
        )
        for name, found in probes.items()
    ]


def run(workload: Workload, knowledge: Sequence[int], repeats: int, out: Path) -> list[Row]:
    """All knowledge lengths; table and JSON go to `out`."""
    rows = [row for length in knowledge for row in measure(replace(workload, knowledge=length), repeats)]
    columns = ["knowledge", "contender", "seconds", "SDFT / this", "peak MB"]
    publish(NAME, out, machine(workload.device), rows, table(columns, [row.cells for row in rows]))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="qwen2.5-coder-0.5b", help="a fetched model's name or a folder")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--knowledge", type=int, nargs="+", default=[512, 2_048])
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--out", type=Path, default=DEFAULT_FOLDER)
    options = parser.parse_args()
    workload = pretrained_workload(str(resolve_model(options.model)), samples=options.samples, dtype=options.dtype)
    run(workload, options.knowledge, options.repeats, options.out)


if __name__ == "__main__":
    main()
