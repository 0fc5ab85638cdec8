"""How our update grows: time with knowledge and batch, memory with the vocabulary.

    python -m tests.benchmarks.distillation_growth

Each point is a fresh process. Time is measured on a small model, since only its shape matters. For the vocabulary the
head is frozen, so that its gradient and optimiser state, which grow with it in any implementation, are not there.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.benchmarks.measure import MEGABYTE, Spread, machine, spread
from tests.benchmarks.probe import measure_apart
from tests.benchmarks.report import DEFAULT_FOLDER, Line, Plot, draw, publish, table
from tests.benchmarks.workload import ModelShape, Workload

NAME = "distillation_growth"
SMALL = ModelShape(hidden=256, layers=4, heads=2, kv_heads=1, head_dim=128, intermediate=768, vocabulary=8_000)
KNOWLEDGE = (256, 512, 1_024, 2_048, 4_096, 8_192)
BATCH = (8, 16, 32, 64, 128, 256)
VOCABULARY = (8_000, 32_000, 64_000, 150_000)


@dataclass(frozen=True)
class GrowthRow:
    """One point of one series."""

    series: str
    x: int
    contender: str
    workload: Workload
    seconds: Spread
    peak_bytes: int

    @property
    def cells(self) -> list[object]:
        return [self.series, self.x, self.contender, self.seconds, f"{self.peak_bytes / MEGABYTE:.0f}"]


def point(series: str, x: int, contender: str, workload: Workload, repeats: int) -> GrowthRow:
    """One process; its first update warms up."""
    found = measure_apart(contender, workload, repeats + 1)
    return GrowthRow(series, x, contender, workload, spread(found.seconds[1:]), found.peak_bytes)


def measure(
    base: Workload, knowledge: Sequence[int], batches: Sequence[int], vocabularies: Sequence[int], repeats: int
) -> list[GrowthRow]:
    """The three series. The vocabulary's has the peer beside it."""
    rows = []
    for length in knowledge:
        workload = replace(base, knowledge=length)
        rows += [point("knowledge", length, name, workload, repeats) for name in ("ours", "ours-kept")]
    for size in batches:
        rows.append(point("batch", size, "ours", replace(base, samples=size, knowledge=min(knowledge)), repeats))
    for size in vocabularies:
        shape = replace(base.shape, vocabulary=size)
        workload = replace(base, shape=shape, knowledge=min(knowledge), train_head=False)
        rows += [point("vocabulary", size, name, workload, 1) for name in ("ours", "sdft")]
    return rows


def _lines(rows: Sequence[GrowthRow], series: str, *, memory: bool = False) -> list[Line]:
    lines = []
    for name in dict.fromkeys(row.contender for row in rows if row.series == series):
        points = [row for row in rows if (row.series, row.contender) == (series, name)]
        values = [row.peak_bytes / MEGABYTE if memory else row.seconds.median for row in points]
        lines.append(Line(name, [row.x for row in points], values))
    return lines


def run(
    base: Workload,
    knowledge: Sequence[int],
    batches: Sequence[int],
    vocabularies: Sequence[int],
    repeats: int,
    out: Path,
) -> None:
    """All series; table, JSON and plots go to `out`."""
    rows = measure(base, knowledge, batches, vocabularies, repeats)
    plots = [
        Plot("Knowledge", "knowledge tokens", "seconds", _lines(rows, "knowledge"), log="x"),
        Plot("Batch", "samples", "seconds", _lines(rows, "batch")),
        Plot("Vocabulary, head frozen", "tokens", "peak MB", _lines(rows, "vocabulary", memory=True)),
    ]
    draw(plots, out / f"{NAME}.svg")
    columns = ["series", "value", "contender", "seconds", "peak MB"]
    publish(NAME, out, machine(base.device), rows, table(columns, [row.cells for row in rows]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=DEFAULT_FOLDER)
    options = parser.parse_args()
    run(Workload(shape=SMALL), KNOWLEDGE, BATCH, VOCABULARY, options.repeats, options.out)


if __name__ == "__main__":
    main()
