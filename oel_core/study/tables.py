"""A study's tables with confidence intervals, as Markdown.

Wilson's interval over all pooled boards is about the pass rate of *these* trained models. Student's t interval over the
loop seeds is about the variation between trainings. Each arm is compared with the reference in pairs of the same board
and seed.
"""

from collections.abc import Sequence
from functools import lru_cache
from statistics import fmean

from oel_core.evaluation.stats import Estimate, mean_over_seeds, paired_bootstrap, wilson
from oel_core.study.arms import HELD_OUT, IN_CONTEXT, REFERENCE, Place, arms_with, comparisons_with
from oel_core.study.results import Cell, StudyResult, foreign_title
from oel_core.text.figures import interval, percent, points, points_interval
from oel_core.text.markdown import escaped, table
from oel_core.types import Record

BOOTSTRAP_SEED = 0


class Row(Record):
    """One line of a table. Rates are shares, not percent."""

    label: str
    arm: str
    round: int
    part: str
    seeds: tuple[int, ...]
    """Loop seeds with this result."""
    episodes: int
    passed: int
    pass_rate: float
    """Of all boards pooled."""
    ci95: tuple[float, float]
    """Wilson interval of the pass rate."""
    by_seed: tuple[float, ...]
    """Pass rate of each loop seed."""
    seeds95: tuple[float, float] | None
    """t interval of the mean over the loop seeds; None where there is one seed."""
    difference: float | None
    """Pass rate minus the reference's after round 1 (distilled), on the same boards."""
    difference95: tuple[float, float] | None
    """Paired bootstrap over boards."""
    response_tokens: float
    """Mean tokens of a response, mean over seeds."""
    trajectory_tokens: float
    truncation_rate: float
    """Share of truncated responses, mean over seeds."""
    invalid_rate: float
    knowledge_tokens: float | None


def rows_of(result: StudyResult, places: Sequence[Place]) -> list[Row]:
    """A row for every place with results of at least one seed."""
    reference = _cells(result, Place("", REFERENCE))
    return [
        _row(place, found, {cell.seed: cell for cell in reference})
        for place in places
        if (found := _cells(result, place))
    ]


def round_places(result: StudyResult, part: str = HELD_OUT) -> list[Place]:
    """The rounds of the reference, the base model's first."""
    return [Place(str(index), REFERENCE, index, part) for index in range(result.rounds + 1)]


def all_rows(result: StudyResult) -> dict[str, list[Row]]:
    """Name of the comparison → its rows; without comparisons that have results of the reference only."""
    found = {one.name: rows_of(result, one.places) for one in comparisons_with(result.varied)}
    compared = {name for name, rows in found.items() if {row.arm for row in rows} > {REFERENCE}} | {"knowledge"}
    found = {name: rows for name, rows in found.items() if name in compared}
    return found | {"rounds": rows_of(result, round_places(result))}


def _cells(result: StudyResult, place: Place) -> list[Cell]:
    wanted = (place.arm, place.round, place.part)
    return [cell for cell in result.cells if (cell.arm, cell.round, cell.part) == wanted]


def _row(place: Place, cells: Sequence[Cell], reference: dict[int, Cell]) -> Row:
    episodes, passed = sum(cell.report.episodes for cell in cells), sum(cell.report.passed for cell in cells)
    rates = tuple(cell.report.pass_rate for cell in cells)
    mean = mean_over_seeds(rates)
    known = [cell.knowledge_tokens for cell in cells if cell.knowledge_tokens is not None]
    difference = _difference(place, cells, reference)
    return Row(
        label=place.label,
        arm=place.arm,
        round=place.round,
        part=place.part,
        seeds=tuple(cell.seed for cell in cells),
        episodes=episodes,
        passed=passed,
        pass_rate=passed / episodes,
        ci95=wilson(passed, episodes),
        by_seed=rates,
        seeds95=(mean.low, mean.high) if len(rates) > 1 else None,
        difference=difference.value if difference else None,
        difference95=(difference.low, difference.high) if difference else None,
        response_tokens=fmean(cell.report.response_tokens for cell in cells),
        trajectory_tokens=fmean(cell.report.trajectory_tokens for cell in cells),
        truncation_rate=fmean(cell.report.truncation_rate for cell in cells),
        invalid_rate=fmean(cell.report.invalid_rate for cell in cells),
        knowledge_tokens=fmean(known) if known else None,
    )


def _difference(place: Place, cells: Sequence[Cell], reference: dict[int, Cell]) -> Estimate | None:
    """Difference from the reference on common boards; None for the reference itself and for other suites."""
    if (place.arm, place.round, place.part) == (REFERENCE, 1, HELD_OUT) or place.part.startswith("ood/"):
        return None
    known = [cell for cell in cells if cell.seed in reference]
    own = "".join(cell.boards for cell in known)
    other = "".join(reference[cell.seed].boards for cell in known)
    return _paired(other, own) if own and len(own) == len(other) else None


@lru_cache(maxsize=256)
def _paired(first: str, second: str) -> Estimate:
    """Thousands of draws take a second, and several tables show the same row."""
    return paired_bootstrap([board == "1" for board in first], [board == "1" for board in second], seed=BOOTSTRAP_SEED)


def markdown(result: StudyResult) -> str:
    """`study.md`."""
    tables = all_rows(result)
    parts = [_head(result)]
    for comparison in comparisons_with(result.varied):
        if rows := tables.get(comparison.name):
            note = f"\n\nForeign: {escaped(foreign_title(result.foreign))}." if comparison.name == "source" else ""
            parts.append(f"## {comparison.title}{note}\n\n{table(_COLUMNS, [_cells_of(row) for row in rows])}")
            parts.append(f"![{comparison.title}](plots/{comparison.name}.svg)")
    parts.append(_rounds(result))
    parts += _suites(result)
    parts += [_work_table(result), _failures(result)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(result: StudyResult) -> str:
    model, boards = result.settings["model"]["path"], result.settings["evaluate"]["games"]["episodes"]
    known = arms_with(result.varied)
    arms = "\n".join(f"- `{name}`: {escaped(known[name].title)}" for name in result.arms)
    kind = result.settings["evaluate"]["games"]["split"].replace("_", "-")
    return (
        f"# Study {escaped(result.name)}\n\nPreset {escaped(result.preset)}, model {escaped(model)}, loop seeds "
        f"{', '.join(map(str, result.seeds))}, {boards} {kind} boards a seed and arm, the same ones for every arm of "
        f"a seed. Every arm starts from the same model; arms that collect or extract the same do it once.\n\n{arms}\n\n"
        "*Boards 95%*: Wilson interval over all boards pooled. *Seeds 95%*: t interval of the mean over loop seeds, "
        "whose pass rates are in the last column. *Against own*: pass rate less that of `own`, consolidated after "
        "round 1, in points, with a paired bootstrap over the same boards."
    )


_COLUMNS = (
    "",
    "pass rate",
    "boards 95%",
    "seeds 95%",
    "against own",
    "resp. tokens",
    "truncated",
    "invalid",
    "by seed",
)


def summary_columns() -> tuple[str, ...]:
    """Column headings of `summary_cells`."""
    return ("arm", *_COLUMNS[1:5], _COLUMNS[-1])


def summary_cells(row: Row) -> list[str]:
    """The main figures of a row, for a terminal."""
    cells = _cells_of(row)
    return [*cells[:5], cells[-1]]


def _cells_of(row: Row) -> list[str]:
    return [
        row.label,
        percent(row.pass_rate),
        interval(row.ci95),
        interval(row.seeds95),
        _signed(row),
        f"{row.response_tokens:.1f}",
        percent(row.truncation_rate),
        percent(row.invalid_rate),
        ", ".join(f"{100 * rate:.1f}" for rate in row.by_seed),
    ]


def _signed(row: Row) -> str:
    if row.difference is None or row.difference95 is None:
        return "-"
    return f"{points(row.difference)} ({points_interval(*row.difference95)})"


def _rounds(result: StudyResult) -> str:
    rows = rows_of(result, round_places(result))
    if not rows:
        return ""
    taught = {row.round: row for row in rows_of(result, round_places(result, IN_CONTEXT))}
    head = ["round", "pass rate", "boards 95%", "seeds 95%", "in context", "resp. tokens", "of round 0"]
    head += ["traj. tokens", "truncated", "invalid", "know. tokens", "by seed"]
    base = rows[0].response_tokens
    body = [
        [
            row.label,
            percent(row.pass_rate),
            interval(row.ci95),
            interval(row.seeds95),
            percent(taught[row.round].pass_rate) if row.round in taught else "-",
            f"{row.response_tokens:.1f}",
            f"{100 * row.response_tokens / base:.0f}%" if base else "-",
            f"{row.trajectory_tokens:.1f}",
            percent(row.truncation_rate),
            percent(row.invalid_rate),
            "-" if row.knowledge_tokens is None else f"{row.knowledge_tokens:.1f}",
            ", ".join(f"{100 * rate:.1f}" for rate in row.by_seed),
        ]
        for row in rows
    ]
    note = "*In context* belongs to the model that the round started from."
    pictures = "![Pass rate by round](plots/rounds.svg)\n![Length and truncation by round](plots/lengths.svg)"
    return f"## Rounds, response length and truncation\n\n{note}\n\n{table(head, body)}\n\n{pictures}"


def _suites(result: StudyResult) -> list[str]:
    """Out-of-distribution suites: every arm after round 1, and the reference's other rounds."""
    found = []
    for part in sorted({cell.part for cell in result.cells if cell.part.startswith("ood/")}):
        places = [Place("base model", REFERENCE, 0, part)]
        places += [Place(f"{name}, round 1", name, 1, part) for name in result.arms]
        places += [
            Place(f"{REFERENCE}, round {index}", REFERENCE, index, part) for index in range(2, result.rounds + 1)
        ]
        rows = rows_of(result, places)
        body = [[*_cells_of(row)[:4], _cells_of(row)[-1]] for row in rows]
        head = (*_COLUMNS[:4], _COLUMNS[-1])
        found.append(f"## Out of distribution: {escaped(part.removeprefix('ood/'))}\n\n{table(head, body)}")
    return found


def _work_table(result: StudyResult) -> str:
    body = [
        [row.run, str(row.made), str(row.shared), f"{row.seconds:.0f}", f"{row.saved_seconds:.0f}"]
        for row in result.work
    ]
    head = ("run", "stages made", "taken over", "seconds", "seconds saved")
    total = f"{sum(row.seconds for row in result.work):.0f} s of work, "
    total += f"{sum(row.saved_seconds for row in result.work):.0f} s saved by sharing."
    return f"## What was done once\n\n{total}\n\n{table(head, body)}"


def _failures(result: StudyResult) -> str:
    lines = [f"- {escaped(run)}: {escaped(why)}" for run, why in sorted(result.failed.items())]
    return "## What could not be measured\n\n" + "\n".join(lines) if lines else ""
