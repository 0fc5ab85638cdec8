"""A project of more rounds than there are 32-bit seeds for, compacted on the way: it goes on, its disk stays flat."""

from itertools import pairwise
from pathlib import Path

import pytest

from oel_core.config.run import parse_config
from oel_core.housekeeping.compacting import compact, compactable
from oel_core.housekeeping.listing import size_of
from oel_core.rounds.outcomes import read_episodes
from oel_core.rounds.round import Round
from oel_core.runs.folder import RunFolder, adopt_config, check_stages, open_run
from oel_core.runs.jsonl import read_jsonl
from oel_core.runs.round_start import RoundStart, write_start
from oel_core.stages.round import run_round
from oel_core.types import Trajectory
from tests.e2e.loop import short_config
from tests.fakes import tiny_model_folder

KEPT = 2


def _project(root: Path, first: int, last: int) -> tuple[RunFolder, list[int]]:
    """The rounds `first` to `last` of a project, compacted after each, and the size of all finished ones after each."""
    values = short_config(tiny_model_folder(root / "model"), rounds=last).model_dump(mode="json")
    values["evaluate"] |= {"ood": {}, "games": values["evaluate"]["games"] | {"episodes": 4, "arms": []}}
    values["distill"] |= {"steps": 1}
    config, run, sizes = parse_config(values, "long"), open_run(root, "long"), list[int]()
    adopt_config(run, config)
    run_round(Round(config, run, 0))
    for number in range(first, last + 1):
        parent = 0 if number == first else number - 1
        write_start(run, number, RoundStart(parent=parent, knowledge=parent or None, trigger=f"t{number}"))
        run_round(Round(config, run, number))
        (run.path / f"round_{number:02d}" / "outcome.json").write_text(
            f'{{"id":"t{number}","outcome":"refused","round":{number},"at":0}}'
        )
        compact(run, compactable(run, KEPT))
        check_stages(run, config)
        sizes.append(size_of(run.path))
    return run, sizes


def _played(run: RunFolder) -> list[Trajectory]:
    """All episodes that are still there: those of the newest rounds, and outcomes of every measurement."""
    paths = sorted(run.path.glob("round_*/collect/trajectories.jsonl"))
    return [one for path in paths for one in read_jsonl(path, Trajectory)]


def _check(run: RunFolder, sizes: list[int], last: int) -> None:
    played = _played(run)
    assert {one.round for one in played} == set(range(last - KEPT + 1, last + 1))
    assert all((one.seed >= 2**52) == (one.round >= 64) for one in played)
    assert len({one.seed for one in played}) == len(played)
    measured = [list(read_episodes(run.stage_path(index, "evaluate/held_out"))) for index in run.rounds()]
    assert {tuple((one.id, one.seed) for one in episodes) for episodes in measured} == {
        tuple((one.id, one.seed) for one in measured[0])
    }
    growth = [after - before for before, after in pairwise(sizes)][KEPT:]
    assert max(growth) - min(growth) < min(growth) / 2  # every round adds its model, its knowledge and its figures


@pytest.mark.slow
def test_rounds_go_on_beyond_the_63rd(tmp_path: Path) -> None:
    run, sizes = _project(tmp_path, 61, 66)
    _check(run, sizes, 66)


@pytest.mark.scale
def test_a_project_of_seventy_rounds_needs_no_more_disk_a_round_at_the_end(tmp_path: Path) -> None:
    run, sizes = _project(tmp_path, 1, 70)
    _check(run, sizes, 70)
