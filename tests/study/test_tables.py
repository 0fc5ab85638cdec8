"""Rows, intervals and pages from known cells."""

import json
from pathlib import Path

import pytest

from oel_core.evaluation.stats import wilson
from oel_core.study.arms import REFERENCE, Place
from oel_core.study.results import Cell, StudyResult, Work
from oel_core.study.tables import all_rows, markdown, round_places, rows_of, summary_cells, summary_columns
from oel_core.study.writing import write_results
from oel_core.types import EvalReport
from tests.study.builders import tiny_plan


def cell(arm: str, seed: int, boards: str, *, round: int = 1, part: str = "held_out", tokens: float = 10) -> Cell:
    report = EvalReport(
        suite="games",
        policy="p",
        episodes=len(boards),
        passed=boards.count("1"),
        pass_rate=boards.count("1") / len(boards),
        ci95=wilson(boards.count("1"), len(boards)),
        response_tokens=tokens,
        turns=2,
        trajectory_tokens=2 * tokens,
        truncation_rate=0.25,
        invalid_rate=0.0,
    )
    return Cell(arm=arm, seed=seed, round=round, part=part, report=report, boards=boards)


def result(*cells: Cell, **changes: object) -> StudyResult:
    plan = tiny_plan()
    values = {
        "name": "tiny",
        "preset": plan.preset,
        "seeds": (1, 2),
        "arms": plan.arms,
        "rounds": 2,
        "foreign": "round:2",
        "settings": plan.config.model_dump(mode="json"),
        "cells": cells,
        "work": (Work(run="seed-1-own", made=9, shared=0, seconds=2.0, saved_seconds=0.0),),
        "failed": {},
    }
    return StudyResult.model_validate(values | changes)


BOTH_SEEDS = (
    cell(REFERENCE, 1, "0000", round=0, tokens=20),
    cell(REFERENCE, 2, "1000", round=0, tokens=20),
    cell(REFERENCE, 1, "1110"),
    cell(REFERENCE, 2, "1111"),
    cell(REFERENCE, 1, "1010", part="in_context"),
    cell(REFERENCE, 2, "1010", part="in_context"),
    cell("sft", 1, "1000"),
    cell("sft", 2, "1100"),
)


def test_boards_are_pooled_and_seeds_are_averaged() -> None:
    (row,) = rows_of(result(*BOTH_SEEDS), [Place("sft", "sft")])
    assert (row.passed, row.episodes, row.pass_rate) == (3, 8, 0.375)
    assert row.ci95 == wilson(3, 8)
    assert row.by_seed == (0.25, 0.5)
    # mean 0.375, standard error 0.125, t with one degree of freedom 12.7062
    assert row.seeds95 == pytest.approx((0.375 - 12.7062 * 0.125, 0.375 + 12.7062 * 0.125))


def test_arms_are_compared_with_the_reference_board_by_board() -> None:
    reference, sft = rows_of(result(*BOTH_SEEDS), [Place("own", REFERENCE), Place("sft", "sft")])
    assert reference.difference is None
    assert sft.difference == pytest.approx(-4 / 8)
    assert sft.difference95 is not None
    assert sft.difference95[0] <= -0.5 <= sft.difference95[1]


def test_one_seed_has_no_interval_over_seeds() -> None:
    (row,) = rows_of(result(cell("sft", 1, "10")), [Place("sft", "sft")])
    assert row.seeds95 is None
    assert row.difference is None  # nothing to compare with
    assert "Infinity" not in row.model_dump_json()


def test_an_arm_that_a_seed_lacks_is_compared_on_the_seeds_that_have_it() -> None:
    (row,) = rows_of(result(*BOTH_SEEDS, cell("raw", 2, "0000")), [Place("raw", "raw")])
    assert row.seeds == (2,)
    assert row.difference == -1.0


def test_comparisons_that_were_not_made_are_left_out() -> None:
    found = all_rows(result(*BOTH_SEEDS))
    assert list(found) == ["knowledge", "regime", "rounds"]
    assert [row.label for row in found["regime"]] == ["the preset's", "SFT on passed episodes"]
    assert [row.round for row in found["rounds"]] == [0, 1]


def test_rounds_say_how_long_responses_are_beside_the_start() -> None:
    text = markdown(result(*BOTH_SEEDS))
    rounds = next(line for line in text.splitlines() if line.startswith("| 1 |"))
    assert "| 10.0 | 50% |" in rounds
    assert "25.0%" in rounds
    assert len(round_places(result(*BOTH_SEEDS))) == 3


def test_other_suites_have_their_own_tables() -> None:
    cells = [cell(name, 1, "10", part="ood/other_symbols") for name in (REFERENCE, "sft")]
    text = markdown(result(*BOTH_SEEDS, *cells))
    assert "## Out of distribution: other\\_symbols" in text
    assert "| sft, round 1 | 50.0% |" in text


def test_settings_are_compared_with_the_presets_and_the_kind_of_boards_is_said() -> None:
    arms = (REFERENCE, "steps_3")
    settings = tiny_plan().config.model_dump(mode="json")
    settings["evaluate"]["games"]["split"] = "validation"
    cells = (cell(REFERENCE, 1, "1100"), cell("steps_3", 1, "1110"))
    varied = result(*cells, arms=arms, varied=("distill.steps=3",), settings=settings)
    own, other = all_rows(varied)["settings"]
    assert (own.label, own.difference) == ("the preset's", None)
    assert (other.label, other.difference) == ("distill.steps=3", pytest.approx(0.25))
    page = markdown(varied)
    assert "## Other settings" in page
    assert "6 validation boards" in page
    assert "- `steps_3`: distill.steps=3" in page
    assert "settings" not in all_rows(result(*BOTH_SEEDS))


def test_failures_are_said() -> None:
    text = markdown(result(*BOTH_SEEDS, failed={"seed-1-raw": "no whole episode fits"}))
    assert "- seed-1-raw: no whole episode fits" in text
    assert "could not be measured" not in markdown(result(*BOTH_SEEDS))


def test_a_terminals_row_has_a_cell_a_column() -> None:
    (row,) = rows_of(result(*BOTH_SEEDS), [Place("sft", "sft")])
    assert len(summary_cells(row)) == len(summary_columns())


def test_files_are_the_same_bytes_for_the_same_figures(tmp_path: Path) -> None:
    found = result(*BOTH_SEEDS)
    first = {path.name: path.read_bytes() for path in write_results(tmp_path / "a", found)}
    again = StudyResult.model_validate(json.loads(first["study.json"]))
    second = {path.name: path.read_bytes() for path in write_results(tmp_path / "b", again)}
    assert first == second
    assert set(first) == {"study.md", "study.json", "knowledge.svg", "regime.svg", "rounds.svg", "lengths.svg"}
    page = first["study.md"].decode()
    assert all(f"plots/{name}" in page for name in first if name.endswith(".svg"))


def test_nothing_measured_yet_is_still_a_page(tmp_path: Path) -> None:
    written = write_results(tmp_path, result(failed={"seed-1-own": "why"}))
    assert [path.name for path in written] == ["study.md", "study.json"]
