"""Plots of a study as SVG files; deterministic bytes."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from oel_core.runs.files import write_atomic
from oel_core.study.arms import IN_CONTEXT, comparisons_with
from oel_core.study.results import StudyResult
from oel_core.study.tables import Row, all_rows, round_places, rows_of

FOLDER = "plots"


def draw_all(result: StudyResult, folder: Path) -> list[Path]:
    """One plot per evaluated comparison, one by round, and one of lengths; returns their files."""
    tables = all_rows(result)
    written = []
    for comparison in comparisons_with(result.varied):
        if rows := tables.get(comparison.name):
            written.append(_save(_arms(comparison.title, rows), folder / f"{comparison.name}.svg"))
    if rows := tables["rounds"]:
        in_context = rows_of(result, round_places(result, IN_CONTEXT))
        written.append(_save(_rounds(rows, in_context), folder / "rounds.svg"))
        written.append(_save(_lengths(rows), folder / "lengths.svg"))
    return written


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.hashsalt": "oel", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot

    return pyplot


def _save(figure: Any, path: Path) -> Path:
    buffer = io.BytesIO()
    figure.tight_layout()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    _pyplot().close(figure)
    write_atomic(path, buffer.getvalue())
    return path


def _arms(title: str, rows: Sequence[Row]) -> Any:
    """One line per arm: the pooled pass rate with its Wilson interval, and the loop seeds as small circles."""
    figure, axis = _pyplot().subplots(figsize=(6.4, 0.6 + 0.42 * len(rows)))
    places = list(range(len(rows)))[::-1]
    rates = [100 * row.pass_rate for row in rows]
    errors = _bars([row.pass_rate for row in rows], [row.ci95 for row in rows])
    axis.errorbar(rates, places, xerr=errors, fmt="o", capsize=3, color="C0")
    for place, row in zip(places, rows, strict=True):
        seeds = [100 * rate for rate in row.by_seed]
        axis.plot(seeds, [place] * len(seeds), "o", markersize=4, markerfacecolor="none", color="C1", alpha=0.8)
    axis.set_yticks(places, [row.label for row in rows])
    axis.set(title=title, xlabel="pass rate, % (95% over boards; rings: loop seeds)", xlim=(0, 100))
    axis.set_ylim(-0.6, len(rows) - 0.4)
    axis.grid(alpha=0.3, axis="x")
    return figure


def _rounds(rows: Sequence[Row], in_context: Sequence[Row]) -> Any:
    """Pass rate by round: mean over seeds with its boards' interval, in context, and every loop seed."""
    figure, axis = _pyplot().subplots(figsize=(5.2, 3.4))
    for number, seed in enumerate(sorted({seed for row in rows for seed in row.seeds})):
        own = [row for row in rows if seed in row.seeds]
        values = [100 * row.by_seed[row.seeds.index(seed)] for row in own]
        label = "loop seeds" if number == 0 else None
        axis.plot([row.round for row in own], values, color="C1", alpha=0.4, linewidth=1, label=label)
    axis.errorbar(
        [row.round for row in rows],
        [100 * row.pass_rate for row in rows],
        yerr=_bars([row.pass_rate for row in rows], [row.ci95 for row in rows]),
        marker="o",
        capsize=3,
        color="C0",
        label="consolidated",
    )
    if in_context:
        x, y = [row.round for row in in_context], [100 * row.pass_rate for row in in_context]
        axis.plot(x, y, "s--", color="C2", label="in context, before it")
    axis.set(title="Pass rate by round", xlabel="round", ylabel="%", ylim=(0, 100))
    return _finish(figure, axis, rows)


def _lengths(rows: Sequence[Row]) -> Any:
    """Response tokens (mean over seeds) and the share of truncated responses by round."""
    figure, (left, right) = _pyplot().subplots(1, 2, figsize=(7.6, 3.2))
    x = [row.round for row in rows]
    left.plot(x, [row.response_tokens for row in rows], marker="o", label="a response")
    left.plot(x, [row.trajectory_tokens for row in rows], marker="s", label="an episode")
    left.set(title="Tokens by round", xlabel="round", ylabel="mean tokens")
    left.set_ylim(bottom=0)
    _finish(figure, left, rows)
    right.plot(x, [100 * row.truncation_rate for row in rows], marker="o", label="truncated")
    right.plot(x, [100 * row.invalid_rate for row in rows], marker="s", label="no valid action")
    right.set(title="Truncated and invalid by round", xlabel="round", ylabel="% of responses")
    right.set_ylim(0, max(5.0, *(110 * rate for row in rows for rate in (row.truncation_rate, row.invalid_rate))))
    return _finish(figure, right, rows)


def _finish(figure: Any, axis: Any, rows: Sequence[Row]) -> Any:
    axis.set_xticks([row.round for row in rows])
    axis.grid(alpha=0.3)
    axis.legend()
    return figure


def _bars(values: Sequence[float], bounds: Sequence[tuple[float, float]]) -> list[list[float]]:
    """Error bars for matplotlib: distances below and above in percent, clamped at 0."""
    pairs = list(zip(values, bounds, strict=True))
    return [
        [max(0.0, 100 * (value - low)) for value, (low, _) in pairs],
        [max(0.0, 100 * (high - value)) for value, (_, high) in pairs],
    ]
