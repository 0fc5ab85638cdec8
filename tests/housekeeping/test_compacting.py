"""What compaction removes, what stays and counts as before, and what a kill on the way leaves."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from flows.cli.app import call
from oel_core.errors import ArtifactError
from oel_core.housekeeping import compacting
from oel_core.housekeeping.compacting import compact, compactable
from oel_core.housekeeping.forgetting.forget import forget_in_run
from oel_core.housekeeping.forgetting.selection import Selection
from oel_core.housekeeping.listing import size_of
from oel_core.knowledge.store import write_knowledge
from oel_core.projects.inbox import INBOX, SOURCES, EpisodeSource, Received
from oel_core.reporting.findings import gather
from oel_core.rounds.outcomes import OUTCOMES, read_episodes, without_texts
from oel_core.rounds.round import Round
from oel_core.runs.folder import RunFolder, check_stages, stage_key
from oel_core.runs.jsonl import jsonl_bytes
from oel_core.runs.round_start import RoundStart, write_start
from oel_core.stages.gate import decide_by_bootstrap
from oel_core.stages.round import run_round
from oel_core.types import Knowledge, Split
from tests.builders import episode, turn
from tests.e2e.loop import run_stages, short_config
from tests.fakes import tiny_model_folder
from tests.housekeeping.test_forgetting import item
from tests.runs_on_disk import begin_stage, finished_run

ROUNDS = 3
NAME = "r01-extract-k00-e0000"
PLACES = ("write_atomic", "record_freed", "shutil.rmtree", "Path.unlink")
"""What compaction calls that changes the disk."""


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three real rounds with a tiny random model."""
    root = tmp_path_factory.mktemp("learned")
    run_stages(root, "lake", short_config(tiny_model_folder(root / "model"), rounds=ROUNDS))
    return root / "lake"


@pytest.fixture
def run(learned: Path, tmp_path: Path) -> RunFolder:
    return RunFolder(Path(shutil.copytree(learned, tmp_path / "lake")))


def compacted(run: RunFolder, keep: int = 1) -> RunFolder:
    compact(run, compactable(run, keep))
    return run


def files(run: RunFolder) -> set[str]:
    return {path.relative_to(run.path).as_posix() for path in run.path.rglob("*") if path.is_file()}


def test_transcripts_go_and_models_knowledge_and_figures_stay(run: RunFolder) -> None:
    before, length = files(run), size_of(run.path)
    found = compactable(run, 1)
    assert [one.round for one in found] == [1, 2]
    compact(run, found)
    gone = before - files(run)
    assert gone == {name for one in found for name in one.files}
    assert {Path(name).name for name in gone} == {
        *("trajectories.jsonl", "raw.jsonl", "items.jsonl", "states.jsonl", "episodes.jsonl")
    }
    notes = sum(path.stat().st_size for path in run.path.rglob("freed.json"))
    assert length - size_of(run.path) + notes == sum(one.bytes for one in found)
    assert compactable(run, 1) == []


def test_what_stays_of_an_episode_has_its_outcome_and_none_of_its_words(run: RunFolder) -> None:
    stage = run.stage_path(1, "evaluate/held_out")
    whole = list(read_episodes(stage))
    compacted(run)
    kept = list(read_episodes(stage))
    assert [(one.id, one.seed, one.reward, one.error, len(one.turns)) for one in kept] == [
        (one.id, one.seed, one.reward, one.error, len(one.turns)) for one in whole
    ]
    text = (stage / OUTCOMES).read_text()
    assert not [turn.observation for one in whole for turn in one.turns if turn.observation in text]


def test_the_report_counts_what_it_counted(run: RunFolder) -> None:
    config = run.config()
    views = gather.rounds(config, run)
    before = views, gather.assessed(config, run, views), decide_by_bootstrap(Round(config, run, 2), 1, config.gate)
    compacted(run)
    views = gather.rounds(config, run)
    assert (
        views,
        gather.assessed(config, run, views),
        decide_by_bootstrap(Round(config, run, 2), 1, config.gate),
    ) == before


def test_finished_stages_stay_finished_and_later_rounds_follow(run: RunFolder) -> None:
    compacted(run)
    config = run.config().model_copy(update={"rounds": ROUNDS + 1})
    check_stages(run, config)
    for number in range(1, ROUNDS + 2):
        run_round(Round(config, run, number))
    assert run.has(ROUNDS + 1, "evaluate/held_out")
    assert [one.round for one in compactable(run, 1)] == [ROUNDS]


def test_what_needs_the_words_says_that_they_are_gone(run: RunFolder) -> None:
    compacted(run)
    with pytest.raises(ArtifactError, match=r"episodes of round 1 .* removed by `oel compact`"):
        Round(run.config(), run, 1).trajectories(Split.EXTRACT)


def test_outcomes_that_were_changed_are_not_believed(run: RunFolder) -> None:
    compacted(run)
    stage = run.stage_path(1, "evaluate/held_out")
    path = stage / OUTCOMES
    path.write_bytes(path.read_bytes().replace(b'"reward":0.0', b'"reward":1.0'))
    with pytest.raises(ArtifactError, match="was changed since `oel compact` wrote it"):
        list(read_episodes(stage))


def test_an_open_round_and_the_newest_ones_are_left_alone(tmp_path: Path) -> None:
    run = finished_run(tmp_path, "lake", rounds=4)
    write_start(run, 2, RoundStart(parent=1, knowledge=None, trigger="monday"))
    for index in (1, 2, 3, 4):
        begin_stage(run, index, "distilled_again")
    assert [one.round for one in compactable(run, 1)] == [1, 3]
    assert [one.round for one in compactable(run, 2)] == [1]


def test_optimiser_states_of_a_broken_off_stage_go(tmp_path: Path) -> None:
    run = finished_run(tmp_path, "lake")
    partial = begin_stage(run, 1, "distill_again")
    (partial / "steps").mkdir()
    (partial / "steps" / "optimizer.safetensors").write_bytes(b"o" * 100)
    compacted(run)
    assert not partial.exists()


@pytest.mark.parametrize(("place", "after"), [(place, after) for place in PLACES for after in (False, True)])
@pytest.mark.parametrize("step", [1, 3])
def test_a_kill_leaves_a_valid_run_and_the_next_call_removes_the_rest(
    run: RunFolder, place: str, after: bool, step: int
) -> None:
    for index in (1, 2):
        for part in ("again", "anew", "once_more"):
            begin_stage(run, index, part)
    owner, name = place.split(".") if "." in place else ("", place)
    target: Any = getattr(compacting, owner) if owner else compacting
    real, left = getattr(target, name), [step]

    def killed(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0]:
            return real(*arguments, **options)
        if after:
            real(*arguments, **options)
        raise KeyboardInterrupt

    found = compactable(run, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, name, killed)
        with pytest.raises(KeyboardInterrupt):
            compact(run, found)
    check_stages(run, run.config())
    gather.rounds(run.config(), run)
    compacted(run)
    check_stages(run, run.config())
    assert compactable(run, 1) == []
    assert [name for name in files(run) if ".partial" in name or name.endswith("trajectories.jsonl")] == [
        f"round_{ROUNDS:02d}/collect/trajectories.jsonl"
    ]


def test_who_is_forgotten_is_still_found_to_have_been_learned_from(tmp_path: Path) -> None:
    run = finished_run(tmp_path, "shop", rounds=2)
    config = run.config()
    said = episode("theirs").model_copy(update={"session": "s1", "user": "kim"})

    def collected(stage: Path) -> dict[str, float]:
        (stage / "trajectories.jsonl").write_bytes(jsonl_bytes([said.model_copy(update={"id": NAME})]))
        source = EpisodeSource(id=NAME, source="theirs", file="a.jsonl", line=1)
        (stage / SOURCES).write_bytes(jsonl_bytes([source]))
        return {}

    def accumulated(stage: Path) -> dict[str, float]:
        kept = item("- Be short.", NAME)
        write_knowledge(stage, 0, Knowledge(replica=0, round=1, items=(kept,), text=kept.text, tokens=3))
        return {}

    run.perform(stage_key(config, 1, "collect", ["seed"], {}), collected)
    run.perform(stage_key(config, 1, "accumulate", ["seed"], {}), accumulated)
    (run.path / "round_01" / INBOX).write_bytes(jsonl_bytes([Received(file="a.jsonl", line=1, episode=said)]))
    compacted(run)
    report = forget_in_run(run, Selection.of(["kim"], None, []), remove=True)
    assert (len(report.items), report.models) == (1, (1, 2))


def test_the_command_says_first_and_waits_for_nobody(run: RunFolder, capfd: pytest.CaptureFixture[str]) -> None:
    root = str(run.path.parent)
    before = files(run)
    assert call(["compact", "lake", "--keep", "1", "--root", root]) == 0
    assert "would be freed: the same command with --yes" in capfd.readouterr().out
    assert {name for name in files(run) if not name.startswith(".")} == {name for name in before if name[0] != "."}
    with run.leased("a round"):
        assert call(["compact", "lake", "--keep", "1", "--yes", "--root", root]) == 2
    assert "is in use by" in capfd.readouterr().err
    assert call(["compact", "lake", "--keep", "1", "--yes", "--json", "--root", root]) == 0
    rows = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [(row["round"], row["removed"]) for row in rows] == [(1, True), (2, True)]
    assert call(["compact", "lake", "--keep", "1", "--root", root]) == 0
    assert "nothing to compact" in capfd.readouterr().out


def test_a_valid_action_without_words_is_still_a_valid_action() -> None:
    played = episode("a", turns=(turn(0), turn(1, "well", action=None)))
    assert [one.action is None for one in without_texts(played).turns] == [False, True]
