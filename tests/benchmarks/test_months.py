"""The months benchmark: every world and defence is a valid configuration, and tables and curves say what rows say."""

from pathlib import Path

import pytest

from oel_core.preflight.check import check_changes
from oel_core.runs.files import write_atomic
from oel_core.runs.folder import RunFolder, open_run, round_name
from oel_core.runs.manifest import StageKey
from oel_core.stages.gate import STAGE, VERDICT
from tests.benchmarks.months import DEFENCES, WORLDS, Row, cell, champion_after, curves, markdown, settings
from tests.gate.test_promotion import played, rate, results, verdict


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("defence", DEFENCES)
def test_every_defence_is_a_configuration_whose_rules_change(world: str, defence: str) -> None:
    config = settings(world, defence, 3, 24, 13, ["distill.steps=2"])
    check_changes(config)
    assert (config.seed, config.rounds, config.distill.steps) == (3, 24, 2)
    before, after = (config.at_round(number).environment.options for number in (12, 13))
    assert {name for name in after if before.get(name) != after[name]} == {"symbols"}
    assert (defence == "none") == (config == settings(world, "none", 3, 24, 13, ["distill.steps=2"]))


def decided(run: RunFolder, number: int, promote: bool) -> None:
    """The folder that a round's gate leaves."""
    found = verdict(results(number, played(rate(90))), results(0, played(rate(20))))
    content = found.model_copy(update={"promote": promote}).model_dump_json().encode()

    def work(folder: Path) -> dict[str, float]:
        write_atomic(folder / VERDICT, content)
        return {}

    run.perform(StageKey(stage=f"{round_name(number)}/{STAGE}", sections=(), config={}, inputs={}), work)


def test_the_champion_is_the_newest_model_that_its_gate_promoted(tmp_path: Path) -> None:
    run = open_run(tmp_path, "lake-gate-0")
    for number, promote in ((1, False), (2, True), (3, False)):
        decided(run, number, promote)
    assert [champion_after(run, number) for number in range(5)] == [0, 0, 2, 2, 2]


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
