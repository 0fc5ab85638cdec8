"""The months benchmark: every world and defence is a valid configuration, and tables and curves say what rows say."""

from dataclasses import replace
from pathlib import Path

import pytest

from oel_core.distillation.data.replay import read_replay
from oel_core.preflight.check import check_changes
from oel_core.runs.files import write_atomic
from oel_core.runs.folder import RunFolder, open_run, round_name
from oel_core.runs.manifest import StageKey
from oel_core.stages.gate import STAGE, VERDICT
from tests.benchmarks.months import DEFENCES, WORLDS, champion_after, settings
from tests.benchmarks.months_replay import PROMPTS, write_replay
from tests.benchmarks.months_tables import Row, by_seed, cell, curves, markdown, means, moments
from tests.gate.test_promotion import played, rate, results, verdict


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("defence", DEFENCES)
def test_every_defence_is_a_configuration_whose_rules_change(world: str, defence: str) -> None:
    config = settings(world, defence, 3, 24, 13, ["distill.steps=2"])
    check_changes(config)
    assert (config.seed, config.rounds, config.distill.steps) == (3, 24, 2)
    before, after = (config.at_round(number).environment.options for number in (12, 13))
    assert {name for name in after if before.get(name) != after[name]} == set(WORLDS[world].changed)
    alike = defence == "none" or (world, defence) == ("shop", "tail")  # the shop's settings have that objective
    assert alike == (config == settings(world, "none", 3, 24, 13, ["distill.steps=2"]))


def test_replayed_prompts_can_be_read_and_have_no_knowledge(tmp_path: Path) -> None:
    config = settings("lake", "replay", 3, 24, 13, [], tmp_path)
    replay = config.distill.retention.replay
    assert replay is not None
    write_replay(Path(replay.path), config)
    found = read_replay(replay)
    assert len({prompt.messages for prompt in found}) == PROMPTS
    assert not any("EXPERIENCE" in message.content for prompt in found for message in prompt.messages)


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
        base_kl=0.0,
        contrary=0.5,
        hedged=1.0,
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


def test_the_models_of_some_rounds_are_side_by_side() -> None:
    rows = [row(seed, number, number / 4, None) for seed in (0, 1) for number in (0, 1, 2)]
    rows += [replace(one, defence="gate", hedged=0.25) for one in rows if one.round < 2]
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in moments(rows, ["none", "gate"], (0, 2)).splitlines()
    ]
    assert [line[:4] for line in lines[2:]] == [
        ["none", "0", "2", "0 (0, 0)"],
        ["gate", "0", "2", "0 (0, 0)"],
        ["none", "2", "2", "50 (50, 50)"],
    ]
    assert [line[lines[0].index("hedged %")] for line in lines[2:4]] == ["100 (100, 100)", "25 (25, 25)"]


def test_a_stopped_run_counts_with_its_last_model_by_the_same_rules() -> None:
    stopped_late = [row(0, number, rate, None) for number, rate in ((1, 1.0), (2, 0.5), (3, 0.25))]
    stopped_early = [row(1, 1, 0.75, None)]
    rows = [*stopped_late, *stopped_early]
    assert by_seed(rows, "none", range(1, 2), 2) == {0: 1.0, 1: 0.75}
    assert by_seed(rows, "none", range(2, 6), 2) == {0: pytest.approx((0.5 + 3 * 0.25) / 4)}


def test_means_are_compared_with_none_on_the_same_seeds() -> None:
    plain = [row(seed, number, 0.25 * seed, None) for seed in (0, 1) for number in range(1, 9)]
    better = [replace(one, defence="gate", served=one.served + 0.125) for one in plain]
    line = means([*plain, *better], ["gate"], rounds=8, change=5).splitlines()[-1]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:2] == ["gate", "8, 8"]
    assert cells[2].startswith("25 (")
    assert cells[-1] == "12 (12 to 12)"
