"""The runs of a study with scripted policies: shared stages, and resuming after kills."""

from pathlib import Path

import pytest

from oel_core import envs
from oel_core.distillation.training import run as training
from oel_core.errors import ArtifactError
from oel_core.rounds import round as rounds
from oel_core.rounds.round import Round
from oel_core.runs.folder import RunFolder
from oel_core.runs.manifest import Manifest
from oel_core.study.plan import RUNS, StudyPlan, jobs
from oel_core.study.results import StudyResult, gather
from oel_core.study.sharing import shared_stages
from oel_core.study.work import Callbacks, perform
from oel_core.types import Trajectory
from tests.study.builders import fake_distill, load_scripted, tiny_plan


class Killed(BaseException):
    """Stands for SIGKILL."""


@pytest.fixture(autouse=True)
def _world(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(envs.REGISTRY, "corridor", "tests.fakes:CorridorEnv")
    monkeypatch.setattr(rounds, "model_digest", lambda path: f"model {path}")
    monkeypatch.setattr(training, "distill", fake_distill)


def run_all(folder: Path, plan: StudyPlan, *, killed_after: int | None = None) -> StudyResult:
    """All runs; `killed_after` so many finished stages."""
    count = 0

    def finished(round: Round, stage: str, manifest: Manifest) -> None:
        nonlocal count
        count += 1
        if count == killed_after:
            raise Killed

    for job in jobs(plan, folder):
        perform(folder, job, Callbacks(finished=finished, load=load_scripted))
    return gather(plan, folder, {})


def stamps(folder: Path) -> dict[str, float]:
    """Manifest → when its stage was finished."""
    return {
        path.relative_to(folder).as_posix(): Manifest.model_validate_json(path.read_bytes()).finished_at
        for path in folder.rglob("manifest.json")
    }


def figures(result: StudyResult) -> list[tuple[str, int, int, str, str]]:
    return [(cell.arm, cell.seed, cell.round, cell.part, cell.boards) for cell in result.cells]


def test_what_arms_have_in_common_is_done_once(tmp_path: Path) -> None:
    plan = tiny_plan(seeds=(1,))
    run_all(tmp_path, plan)
    shared = {
        job.arm: {stage.removeprefix("round_01/") for stage in shared_stages(RunFolder(tmp_path / RUNS / job.name))}
        for job in jobs(plan, tmp_path)
    }
    extracted = {"collect", "extract", "accumulate"}
    assert shared["own"] == set()
    assert shared["raw"] == {"collect"}
    assert shared["foreign"] == {"collect", "evaluate/held_out"}  # these players write the same: equal weights
    assert shared["foreign-model"] == set()
    for regime in ("teacher_rollouts", "mixture", "sft"):
        assert shared[regime] == extracted | {"select"}
    assert shared["on_policy"] == extracted | {"select", "distill", "evaluate/held_out"}  # the preset's own settings
    assert shared["step_wise"] == extracted


def test_every_arm_is_measured_on_the_same_boards(tmp_path: Path) -> None:
    result = run_all(tmp_path, tiny_plan(seeds=(1,)))
    held_out = {(cell.arm, cell.round, cell.part) for cell in result.cells}
    assert held_out >= {(arm, 1, "held_out") for arm in tiny_plan().arms}
    assert held_out >= {(arm, 1, "in_context") for arm in ("own", "raw", "foreign", "step_wise")}
    assert {("own", 0, "held_out"), ("own", 2, "held_out")} <= held_out
    assert len({cell.boards for cell in result.cells if cell.part == "held_out" and cell.round == 1}) == 1
    assert {len(cell.boards) for cell in result.cells} == {6}


def test_held_out_boards_decide_nothing(tmp_path: Path) -> None:
    run_all(tmp_path, tiny_plan(seeds=(1,), arms=("own", "raw")))
    seeds = {"used": set(), "held_out": set()}
    for path in (tmp_path / RUNS).rglob("*.jsonl"):
        if path.name in ("trajectories.jsonl", "episodes.jsonl"):
            kind = "held_out" if "evaluate" in path.as_posix() else "used"
            seeds[kind] |= {Trajectory.model_validate_json(line).seed for line in path.read_text().splitlines()}
    assert seeds["used"]
    assert not seeds["used"] & seeds["held_out"]


def test_a_killed_study_repeats_nothing_and_ends_alike(tmp_path: Path) -> None:
    """Killed in the reference's first round, between two runs, and in an arm that shares."""
    plan = tiny_plan(seeds=(1,), arms=("own", "raw", "sft"))
    reference = run_all(tmp_path / "reference", plan)
    last = len(stamps(tmp_path / "reference"))
    for killed_after in (3, 18, last - 1):
        folder = tmp_path / f"killed{killed_after}"
        with pytest.raises(Killed):
            run_all(folder, plan, killed_after=killed_after)
        before = stamps(folder)
        again = run_all(folder, plan)
        after = stamps(folder)
        assert {path: after[path] for path in before} == before
        assert figures(again) == figures(reference)
        assert stamps(folder).keys() == stamps(tmp_path / "reference").keys()
    run_all(folder, plan)
    assert stamps(folder) == after


def test_more_seeds_rounds_and_arms_go_on_with_what_is_there(tmp_path: Path) -> None:
    run_all(tmp_path, tiny_plan(seeds=(1,), arms=("own",), rounds=1))
    before = stamps(tmp_path)
    result = run_all(tmp_path, tiny_plan(arms=("own", "sft")))
    after = stamps(tmp_path)
    assert {path: after[path] for path in before} == before
    assert {cell.seed for cell in result.cells} == {1, 2}


def test_other_settings_under_the_same_name_are_refused(tmp_path: Path) -> None:
    plan = tiny_plan(seeds=(1,), arms=("own",))
    run_all(tmp_path, plan)
    other = plan.config.model_copy(update={"collect": plan.config.collect.model_copy(update={"replicas": 3})})
    with pytest.raises(ArtifactError, match=r"collect\.replicas: 2 → 3"):
        run_all(tmp_path, plan.model_copy(update={"config": other}))


def test_what_was_done_once_is_counted(tmp_path: Path) -> None:
    result = run_all(tmp_path, tiny_plan(seeds=(1,), arms=("own", "sft")))
    work = {row.run: row for row in result.work}
    assert work["seed-1-sft"].shared == 4
    assert work["seed-1-sft"].made == 2  # distill and evaluate/held_out
    assert work["seed-1-own"].shared == 0
