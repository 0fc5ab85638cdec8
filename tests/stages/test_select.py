"""Selection: the selected files, their sampling in distillation, and resuming after kills."""

import json
from pathlib import Path
from typing import Any

import pytest

from oel_core import envs
from oel_core.config.run import ModelConfig, OelConfig, parse_config
from oel_core.errors import ArtifactError, ConfigError
from oel_core.evaluation.validation import validation_plans
from oel_core.knowledge.selection_records import Selection
from oel_core.knowledge.store import load_knowledge
from oel_core.policies.base import Policy
from oel_core.policies.scripted import ScriptedPolicy
from oel_core.preflight.check import check
from oel_core.rounds import round as rounds
from oel_core.rounds.context import StageContext
from oel_core.rounds.round import Round
from oel_core.runs.folder import RunFolder, open_run
from oel_core.runs.jsonl import read_jsonl
from oel_core.seeds import derive_seed, reference_seed
from oel_core.stages.accumulate import accumulate
from oel_core.stages.collect import collect
from oel_core.stages.evaluate import evaluate
from oel_core.stages.extract import extract
from oel_core.stages.saturation import SaturationCurve, points, saturation
from oel_core.stages.select import select
from oel_core.types import Message, Split, Trajectory

TRUTH, LIE = "- EXPERIENCE ITEM: the goal is to the right", "- EXPERIENCE ITEM: the goal is to the left"
LYING_REPLICA = 1


class Killed(BaseException):
    """Stands for SIGKILL."""


def player(messages: tuple[Message, ...], seed: int) -> str:
    """Believes what it reads; without knowledge it goes where its seed says. The second corridor lies."""
    text = messages[0].content
    if "study one finished episode" in text:
        return f"{TRUTH if seed % 2 else LIE}\n- EXPERIENCE ITEM: seen {seed % 1000}"
    if LIE in text and TRUTH not in text:
        return "I go [left]"
    return f"I go [{'right' if TRUTH in text or derive_seed('player', seed) % 2 else 'left'}]"


def load_scripted(path: str, config: ModelConfig) -> Policy:
    return ScriptedPolicy(player, batch_size=4)


def config(**knowledge: Any) -> OelConfig:
    values: dict[str, Any] = {
        "environment": {"name": "corridor", "max_turns": 4},
        "collect": {"replicas": 4, "extraction_episodes": 4},
        "extract": {"use_after": 1},
        "knowledge": {"max_tokens": 400} | knowledge,
        "distill": {"steps": 3, "episodes_per_step": 2},
        "evaluate": {"games": {"episodes": 6}},
    }
    return parse_config(values, "test")


@pytest.fixture(autouse=True)
def _world(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(envs.REGISTRY, "corridor", "tests.fakes:CorridorEnv")
    monkeypatch.setattr(rounds, "model_digest", lambda path: "base")


def accumulated(root: Path, name: str, configuration: OelConfig) -> RunFolder:
    run = open_run(root, name)
    collect(Round(configuration, run, 1), StageContext(load_scripted))
    extract(Round(configuration, run, 1), StageContext(load_scripted))
    accumulate(Round(configuration, run, 1), StageContext(load_scripted))
    return run


def selection_of(run: RunFolder) -> Selection:
    return Selection.model_validate_json((run.stage_path(1, "select") / "scores.json").read_bytes())


def selected(root: Path, name: str, use: str, **more: Any) -> tuple[RunFolder, OelConfig]:
    configuration = config(selection={"use": use, "episodes": 12, **more})
    run = accumulated(root, name, configuration)
    select(Round(configuration, run, 1), StageContext(load_scripted))
    return run, configuration


def test_scores_are_those_of_validation_episodes_that_nothing_else_plays(tmp_path: Path) -> None:
    run, configuration = selected(tmp_path, "run", "best")
    episodes = list(read_jsonl(run.stage_path(1, "select") / "episodes.jsonl", Trajectory))
    assert {episode.split for episode in episodes} == {Split.VALIDATION}
    collected = read_jsonl(run.stage_path(1, "collect") / "trajectories.jsonl", Trajectory)
    evaluate(Round(configuration, run, 0), "held_out", StageContext(load_scripted))
    held_out = read_jsonl(run.stage_path(0, "evaluate/held_out") / "episodes.jsonl", Trajectory)
    seeds = {episode.seed for episode in episodes}
    assert len(seeds) == 12
    assert not seeds & {episode.seed for episode in [*collected, *held_out]}
    for file in selection_of(run).files:
        text = load_knowledge(run.stage_path(1, "accumulate"), file.replica).text
        right = sum(seed // 3 % 2 for seed in seeds)  # the corridor's goal is to the right for these
        assert file.score.passed == (right if TRUTH in text else 12 - right)
        assert file.score.episodes == 12
    assert selection_of(run).without.episodes == 12


def test_the_best_file_alone_is_distilled_and_carries_its_score(tmp_path: Path) -> None:
    run, configuration = selected(tmp_path, "run", "best")
    teaching = Round(configuration, run, 1).knowledge()
    best = max(file.score.pass_rate for file in selection_of(run).files)
    assert [entry.validation_score for entry in teaching.knowledge] == [best]
    assert teaching.weights is None
    replica = teaching.knowledge[0].replica
    before = load_knowledge(run.stage_path(1, "accumulate"), replica)
    assert teaching.knowledge[0].text == before.text
    assert before.validation_score is None
    run.manifest(1, "accumulate")  # what was finished is as it was
    assert not (run.stage_path(1, "select") / f"knowledge_{(replica + 1) % 4:02d}.md").exists()


def test_top_m_keeps_m_and_weighted_draws_by_score(tmp_path: Path) -> None:
    run, configuration = selected(tmp_path, "top", "top_m", m=3)
    kept = Round(configuration, run, 1).knowledge().knowledge
    scores = {file.replica: file.score.pass_rate for file in selection_of(run).files}
    assert len(kept) == 3
    assert min(scores[entry.replica] for entry in kept) >= min(scores.values())
    run, configuration = selected(tmp_path, "weighted", "weighted")
    teaching = Round(configuration, run, 1).knowledge()
    assert teaching.weights is not None
    assert sum(teaching.weights) == pytest.approx(1)
    rates = [scores[entry.replica] for entry in teaching.knowledge]
    assert list(teaching.weights) == pytest.approx([rate / sum(rates) for rate in rates])
    assert len(teaching.texts(6, 0)) == 6


def test_the_in_context_arm_reads_what_is_distilled(tmp_path: Path) -> None:
    run, configuration = selected(tmp_path, "run", "best")
    evaluate(Round(configuration, run, 1), "in_context", StageContext(load_scripted))
    played = read_jsonl(run.stage_path(1, "evaluate/in_context") / "episodes.jsonl", Trajectory)
    assert len({episode.knowledge_digest for episode in played}) == 1
    changed = config(selection={"use": "top_m", "m": 2, "episodes": 12})
    with pytest.raises(ArtifactError, match=r"knowledge\.selection\.use: best → top_m"):
        select(Round(changed, run, 1), StageContext(load_scripted))


@pytest.mark.parametrize("killed_after", [1, 7, 30])
def test_a_killed_selection_goes_on_and_ends_with_the_same_scores(tmp_path: Path, killed_after: int) -> None:
    configuration = config(selection={"use": "weighted", "episodes": 12})
    found = []
    for name in ("reference", "killed"):
        run = accumulated(tmp_path, name, configuration)

        def on_progress(done: int, total: int) -> None:
            if done >= killed_after:
                raise Killed

        if name == "killed":
            with pytest.raises(Killed):
                select(Round(configuration, run, 1), StageContext(load_scripted, on_progress))
        select(Round(configuration, run, 1), StageContext(load_scripted))
        found.append((run.stage_path(1, "select") / "scores.json").read_bytes())
        ids = [e.id for e in read_jsonl(run.stage_path(1, "select") / "episodes.jsonl", Trajectory)]
        assert len(ids) == len(set(ids))
    assert found[0] == found[1]


def test_equal_texts_are_played_once_and_score_alike(tmp_path: Path) -> None:
    configuration = config(saturation={"every": 2, "episodes": 5})
    run = accumulated(tmp_path, "run", configuration)
    counts = saturation(Round(configuration, run, 1), StageContext(load_scripted)).counts
    folder = run.stage_path(1, "saturation")
    curve = SaturationCurve.model_validate_json((folder / "curve.json").read_bytes())
    assert points(configuration) == [0, 2, 4]
    assert [n for n, _ in curve.means()] == [0, 2, 4]
    assert counts["pass_rate_after_4"] == curve.means()[-1][1]
    empty = [point.score for point in curve.points if point.episodes == 0]
    assert len(empty) == 4
    assert len({score.passed for score in empty}) == 1
    episodes = list(read_jsonl(folder / "episodes.jsonl", Trajectory))
    assert len(episodes) == 5 * len({episode.knowledge_digest for episode in episodes})


def test_points_end_with_the_last_episode() -> None:
    assert points(config(saturation={"every": 3})) == [0, 3, 4]
    assert points(config(saturation={"every": 9})) == [0, 4]


def test_selection_in_a_world_without_validation_boards_is_refused_at_the_start() -> None:
    small = {"name": "frozen_lake", "options": {"size": 3, "holes": 2}, "split_by_layout": True}
    for knowledge in ({"selection": {"use": "best"}}, {"saturation": {"every": 2}}):
        with pytest.raises(ConfigError, match=r"(?s)knowledge\.s.*validation.*too few layouts.*selection\.use=all"):
            check(parse_config({"environment": small, "knowledge": knowledge}, "test"))
    check(parse_config({"environment": small}, "test"))
    check(parse_config({"environment": small | {"split_by_layout": False}, "knowledge": knowledge}, "test"))


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"selection\.m is 5.*collect\.replicas = 4"):
        config(selection={"use": "top_m", "m": 5})
    with pytest.raises(ConfigError, match=r"selection\.use"):
        config(selection={"use": "worst"})


def test_nothing_is_scored_by_default(tmp_path: Path) -> None:
    run = accumulated(tmp_path, "run", config())
    assert len(Round(config(), run, 1).knowledge().knowledge) == 4
    with pytest.raises(ConfigError, match="nothing to select"):
        select(Round(config(), run, 1), StageContext(load_scripted))
    assert "selection" not in json.dumps(run.manifest(1, "accumulate").key.config)


def test_knowledge_goes_on_though_review_selection_and_replicas_changed(tmp_path: Path) -> None:
    """A project of many rounds is not stuck with the settings of its first one."""
    old = config(carry_over=True)
    run = accumulated(tmp_path, "run", old)
    values = config(carry_over=True, selection={"use": "best", "episodes": 2}).model_dump(mode="json")
    values["collect"]["replicas"] = 6
    values["review"]["mode"] = "required"
    new = parse_config(values, "test")
    texts = [load_knowledge(run.stage_path(1, "accumulate"), replica).text for replica in range(4)]
    carried = [Round(new, run, 2).previous_knowledge()[replica] for replica in range(6)]
    assert [entry.text for entry in carried if entry] == [*texts, *texts[:2]]
    assert Round(new, run, 2).previous_input() == Round(old, run, 2).previous_input()


def test_the_papers_seeds_are_played_in_validation_too() -> None:
    paper = config().model_copy(update={"environment": config().environment.model_copy(update={"seeds": "paper"})})
    seeds = [plan.seed for plan in validation_plans(paper, 2, 3)]
    assert seeds == [reference_seed(0, Split.VALIDATION, 2, 0, index) for index in range(3)]
    assert seeds != [plan.seed for plan in validation_plans(config(), 2, 3)]
