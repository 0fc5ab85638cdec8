"""What Prefect, MLflow and the manifests add to a round, against the same stages called as plain functions.

    python -m tests.benchmarks.overhead quickstart --pairs 3

Both kinds run in this process, by turns, with the same seeds, so they compute the same. A round here is what `oel run`
does with `rounds=1`: the base model's measurements, every stage, the report. What manifests cost is timed inside the
plain runs. The target is at most 3% of a round, or 5 seconds.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flows.local import start_temporary_server, use_local_services, wait_until_ready
from oel_core.config.run import OelConfig, load_config
from oel_core.reporting import write_report
from oel_core.rounds.round import Round
from oel_core.runs import folder as artifacts
from oel_core.runs.folder import RunFolder, adopt_config, open_run
from oel_core.stages.accumulate import accumulate
from oel_core.stages.collect import collect
from oel_core.stages.distill import distill
from oel_core.stages.evaluate import evaluate, parts
from oel_core.stages.extract import extract
from oel_core.stages.select import select
from tasks.resources import free_policies
from tests.benchmarks import report


class Stopwatch:
    """Adds up the seconds that some functions take."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                self.seconds += time.perf_counter() - began

        return timed


def plain_round(config: OelConfig, root: Path, name: str) -> RunFolder:
    """Every stage as the flows call it, without Prefect and MLflow."""
    run = open_run(root, name)
    with run.locked():
        adopt_config(run, config)
        for part in parts(config, 0):
            evaluate(Round(config, run, 0), part)
        collect(Round(config, run, 1))
        extract(Round(config, run, 1))
        accumulate(Round(config, run, 1))
        if config.knowledge.selection.use != "all":
            select(Round(config, run, 1))
        free_policies()
        distill(Round(config, run, 1))
        for part in parts(config, 1):
            evaluate(Round(config, run, 1), part)
        write_report(run)
    return run


def whole_round(config: OelConfig, root: Path, name: str) -> None:
    """The same through the flows."""
    from flows.learning_loop import learning_loop

    learning_loop(config, name, root)


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock time of one call, with the policies of the one before it gone."""
    free_policies()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure(config: OelConfig, root: Path, pairs: int) -> dict[str, list[float]]:
    """Seconds of plain runs, of the manifests in them, and of whole runs; a pair that is not counted goes first."""
    watch = Stopwatch()
    for name in ("_begin", "_seal"):
        setattr(artifacts, name, watch.around(getattr(artifacts, name)))
    found: dict[str, list[float]] = {"plain": [], "manifests": [], "whole": []}
    brief = config.model_copy(update={"distill": config.distill.model_copy(update={"steps": 1})})
    plain_round(brief, root, "warm-plain")
    whole_round(brief, root, "warm-whole")
    for pair in range(pairs):
        watch.seconds = 0.0
        found["plain"].append(seconds(lambda pair=pair: plain_round(config, root, f"plain-{pair}")))  # type: ignore[misc]
        found["manifests"].append(watch.seconds)
        found["whole"].append(seconds(lambda pair=pair: whole_round(config, root, f"whole-{pair}")))  # type: ignore[misc]
        print(f"pair {pair + 1}: plain {found['plain'][-1]:.2f} s, whole {found['whole'][-1]:.2f} s", flush=True)
    return found


def table(found: dict[str, list[float]]) -> str:
    """Medians with their range, and what each layer adds."""
    bare = [plain - sealed for plain, sealed in zip(found["plain"], found["manifests"], strict=True)]
    base = statistics.median(bare)
    rows = []
    for label, values in (
        ("plain functions, manifests not counted", bare),
        ("and manifests", found["plain"]),
        ("and Prefect and MLflow", found["whole"]),
    ):
        middle = statistics.median(values)
        over = f"{middle - base:+.2f} s, {100 * (middle / base - 1):+.1f}%"
        rows.append([label, f"{middle:.2f} ({min(values):.2f} to {max(values):.2f})", over])
    return report.table(["round", "seconds, median (range)", "over plain functions"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("preset", nargs="?", default="quickstart")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE")
    options = parser.parse_args()
    config = load_config(options.preset, [*options.set, "rounds=1"])
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        use_local_services(root, verbose=False)
        start_temporary_server(root)
        wait_until_ready()
        print(table(measure(config, root, options.pairs)))


if __name__ == "__main__":
    main()
