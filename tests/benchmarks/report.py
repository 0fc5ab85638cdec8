"""How a benchmark shows what it found: a Markdown table on the screen, and JSON, table and plots in a folder."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

DEFAULT_FOLDER = Path("runs/benchmarks")


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [list(columns), ["---"] * len(columns), *([str(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def publish(name: str, folder: Path, machine: Mapping[str, Any], rows: Sequence[Any], markdown: str) -> None:
    """Writes `<name>.json` and `<name>.md` and prints the table. `rows` are dataclasses."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {"machine": machine, "rows": [asdict(row) for row in rows]}
    (folder / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    facts = ", ".join(f"{key} {value}" for key, value in machine.items())
    text = f"{markdown}\n\n{facts}\n"
    (folder / f"{name}.md").write_text(text, encoding="utf-8")
    print(f"{text}\n{folder / name}.json, .md and plots")


@dataclass(frozen=True)
class Line:
    """One line of a plot."""

    label: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Plot:
    """One pair of axes, both logarithmic from the least to the greatest value if `log` names them ("x", "xy")."""

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    log: str = ""


def draw(plots: Sequence[Plot], path: Path) -> None:
    """Draws plots side by side into an SVG file; equal numbers give equal bytes."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.hashsalt": "oel", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(plots), figsize=(4.2 * len(plots), 3.2), squeeze=False)
    for axis, plot in zip(axes[0], plots, strict=True):
        for line in plot.lines:
            axis.plot(line.x, line.y, marker="o", markersize=3, label=line.label)
        axis.set(title=plot.title, xlabel=plot.x_label, ylabel=plot.y_label)
        if "x" in plot.log:
            axis.set_xscale("log", base=2)
        if "y" in plot.log:
            axis.set_yscale("log")
        else:
            axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        axis.legend()
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
