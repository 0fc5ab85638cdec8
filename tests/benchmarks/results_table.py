"""Runs a preset with several loop seeds and prints the table of docs/results.md.

    python -m tests.benchmarks.results_table quickstart --seeds 4 5 6 --root runs
    python -m tests.benchmarks.results_table tools-qwen-0.5b --seeds 1 2 3 --episodes 64 --set model.dtype=bfloat16

Each seed is an ordinary run (`oel run`), so what is finished is not run again.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from oel_core.evaluation.stats import mean_over_seeds
from oel_core.rounds.summary import RoundSummary, summarise_run
from oel_core.runs.folder import find_run

Value = Callable[[RoundSummary], float | None]


def run_seed(preset: str, seed: int, root: Path, settings: Sequence[str]) -> list[RoundSummary]:
    """One loop, through the command line as a user would start it."""
    name = f"{preset}-seed-{seed}"
    command = [sys.executable, "-m", "flows.cli.app", "run", preset, "--root", str(root), "--name", name]
    changes = [part for setting in (f"seed={seed}", *settings) for part in ("--set", setting)]
    subprocess.run([*command, *changes], check=True)
    return summarise_run(find_run(root, name))


def cell(values: Sequence[float | None], scale: float) -> str:
    """Mean over the seeds, its 95% interval, and the single values."""
    known = [scale * value for value in values if value is not None]
    if not known:
        return "-"
    mean = mean_over_seeds(known)
    return f"{mean.value:.1f} [{mean.low:.1f}, {mean.high:.1f}] ({', '.join(f'{value:.1f}' for value in known)})"


def table(runs: Sequence[Sequence[RoundSummary]]) -> str:
    """Rows are rounds; every cell is mean [95% t-interval over loop seeds] (the seeds)."""
    suites = sorted({suite for rows in runs for row in rows for suite in row.ood})
    columns: dict[str, tuple[Value, float]] = {
        "pass rate %": (lambda row: row.pass_rate, 100),
        "in context %": (lambda row: row.in_context_pass_rate, 100),
        "raw %": (lambda row: row.raw_pass_rate, 100),
        "response tokens": (lambda row: row.response_tokens, 1),
        "knowledge tokens": (lambda row: row.knowledge_tokens, 1),
    }
    for suite in suites:
        columns[f"{suite} %"] = (lambda row, suite=suite: row.ood.get(suite), 100)  # type: ignore[misc]
    lines = [["round", *columns], ["---"] * (len(columns) + 1)]
    for same_round in zip(*runs, strict=True):
        values = [cell([value(row) for row in same_round], scale) for value, scale in columns.values()]
        lines.append([str(same_round[0].round), *values])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("preset")
    parser.add_argument("--seeds", type=int, nargs="+", default=[4, 5, 6])
    parser.add_argument("--root", type=Path, default=Path("runs"))
    parser.add_argument("--episodes", type=int, default=256, help="held-out episodes of each arm and seed")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="as of oel run")
    options = parser.parse_args()
    settings = [f"evaluate.games.episodes={options.episodes}", *options.set]
    print(table([run_seed(options.preset, seed, options.root, settings) for seed in options.seeds]))


if __name__ == "__main__":
    main()
