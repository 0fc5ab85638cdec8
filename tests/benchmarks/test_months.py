"""The months benchmark: every world and defence is a valid configuration, and tables and curves say what rows say."""

import pytest

from oel_core.preflight.check import check_changes
from tests.benchmarks.months import DEFENCES, WORLDS, Row, cell, curves, markdown, settings


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("defence", DEFENCES)
def test_every_defence_is_a_configuration_whose_rules_change(world: str, defence: str) -> None:
    config = settings(world, defence, 3, 24, 13, ["distill.steps=2"])
    check_changes(config)
    assert (config.seed, config.rounds, config.distill.steps) == (3, 24, 2)
    before, after = (config.at_round(number).environment.options for number in (12, 13))
    assert {name for name in after if before.get(name) != after[name]} == {"symbols"}
    assert (defence == "none") == (config == settings(world, "none", 3, 24, 13, ["distill.steps=2"]))


def row(seed: int, number: int, present: float, stale: float | None) -> Row:
    return Row(
        world="lake",
        defence="none",
        seed=seed,
        round=number,
        changed=number > 1,
        present=present,
        old=0.5,
        served=present,
        promoted=None,
        pairs=None,
        response_tokens=31.0,
        entropy=None,
        kl=None,
        stale=stale,
        knowledge_tokens=None,
        seconds=1.0,
        bytes=1,
    )


def test_cells_have_the_mean_and_every_seed() -> None:
    rows = [row(0, 1, 0.5, None), row(1, 1, 0.25, 1.0)]
    assert cell(rows, "present world %") == "38 (50, 25)"
    assert (cell(rows, "stale files %"), cell(rows, "entropy")) == ("100", "-")


def test_table_and_curves_have_every_round() -> None:
    rows = [row(seed, number, number / 4, 0.0) for seed in (0, 1) for number in (1, 2)]
    lines = markdown(rows, ["none"]).splitlines()
    assert [line.split(" | ")[:3] for line in lines[4:]] == [["| 1", "old", "2"], ["| 2", "new", "2"]]
    (line,) = curves(rows, ["none"])[0].lines
    assert (line.x, line.y) == ([1, 2], [25.0, 50.0])
