"""Loss and gradient of our update against the plain implementation, and both against it in float64.

    python -m tests.benchmarks.exactness

The top-k objective jumps where a token's k-th and next logits are equal: which of the two is looked at is then decided
by rounding, in any implementation. Such tokens are counted as ties.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.benchmarks.contender_ours import Ours
from tests.benchmarks.measure import machine
from tests.benchmarks.plain import PlainResult, plain_update, relative_difference
from tests.benchmarks.report import DEFAULT_FOLDER, publish, table
from tests.benchmarks.workload import Corpus, Workload, draw_corpus, load_workload_model, save_workload_model

NAME = "exactness"


@dataclass(frozen=True)
class Difference:
    """Relative: of the loss, and of all gradients as the norm of their difference."""

    loss: float
    gradient: float

    def __str__(self) -> str:
        return f"{self.loss:.1e} / {self.gradient:.1e}"


@dataclass(frozen=True)
class ExactnessRow:
    """One draw of weights and samples."""

    workload: Workload
    ties: int
    """Response tokens whose k-th and next logits are closer than float32 can tell."""
    ours: Difference
    """Against the plain implementation in float32."""
    ours_double: Difference
    """Against it in float64."""
    plain_double: Difference
    """The plain implementation in float32 against float64."""


def _plain(workload: Workload, corpus: Corpus, folder: Path, *, double: bool) -> PlainResult:
    student, teacher = (load_workload_model(folder, workload) for _ in range(2))
    if double:
        student, teacher = student.double(), teacher.double()
    return plain_update(student, teacher, workload, corpus)


def _difference(loss: float, gradients: dict, expected: PlainResult) -> Difference:  # type: ignore[type-arg]
    found = {name: gradient.double() for name, gradient in gradients.items()}
    wanted = {name: gradient.double() for name, gradient in expected.gradients.items()}
    return Difference(abs(loss - expected.loss) / abs(expected.loss), relative_difference(found, wanted))


def measure(workload: Workload) -> ExactnessRow:
    """One row."""
    with tempfile.TemporaryDirectory() as place:
        folder, corpus = Path(place), draw_corpus(workload)
        save_workload_model(workload, folder)
        plain, double = (_plain(workload, corpus, folder, double=double) for double in (False, True))
        loss, gradients = Ours(workload, corpus, folder).gradient()
    return ExactnessRow(
        workload,
        plain.ties,
        _difference(loss, gradients, plain),
        _difference(loss, gradients, double),
        _difference(plain.loss, plain.gradients, double),
    )


def run(base: Workload, knowledge: Sequence[int], seeds: Sequence[int], out: Path) -> list[ExactnessRow]:
    """All rows."""
    rows = [measure(replace(base, knowledge=length, seed=seed)) for length in knowledge for seed in seeds]
    columns = ["knowledge", "seed", "ties", "ours, plain float32", "ours, float64", "plain float32, float64"]
    cells = [
        [row.workload.knowledge, row.workload.seed, row.ties, row.ours, row.ours_double, row.plain_double]
        for row in rows
    ]
    publish(NAME, out, machine(base.device), rows, "Loss / gradient:\n\n" + table(columns, cells))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--knowledge", type=int, nargs="+", default=(512, 2_048, 8_192))
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2))
    parser.add_argument("--out", type=Path, default=DEFAULT_FOLDER)
    options = parser.parse_args()
    run(replace(Workload(), samples=8), options.knowledge, options.seeds, options.out)


if __name__ == "__main__":
    main()
