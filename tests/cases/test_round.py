"""A round of a project without an environment: from an inbox of recorded sessions to the gate's verdict."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from oel_core.cases.case import Case
from oel_core.cases.frozen import CASES, read_cases
from oel_core.config.run import ModelConfig, OelConfig, parse_config
from oel_core.distillation.data.dataset import sample_id
from oel_core.errors import ArtifactError, ConfigError
from oel_core.knowledge.selection_records import Selection
from oel_core.policies.base import Policy
from oel_core.policies.scripted import ScriptedPolicy
from oel_core.preflight.check import check_measuring
from oel_core.projects.round_cases import RESERVED, Reserved
from oel_core.projects.triggers import begin, end
from oel_core.rounds import round as rounds
from oel_core.rounds.context import StageContext
from oel_core.rounds.prompts import partial_rollouts
from oel_core.rounds.round import Round
from oel_core.rounds.summary import summarise_round
from oel_core.runs.folder import RunFolder, open_run
from oel_core.runs.jsonl import jsonl_bytes, read_jsonl
from oel_core.stages.collect import collect
from oel_core.stages.evaluate import evaluate, parts
from oel_core.stages.gate import decide_by_bootstrap, gate, read_verdict
from oel_core.stages.round import knowledge_stages
from oel_core.stages.select import select
from oel_core.types import Message, Split, Trajectory
from tests.cases.sessions import people, said, session

LEARNT = "the answer is blue"


def inbox_sessions(count: int, start: int = 0) -> list[Trajectory]:
    """Sessions of people with one or two sessions each; every answer was wrong and corrected."""
    given = [people(thumbs=False, correction="blue")]
    return [
        session(f"s{n}", (said(n), "green"), user=f"u{n // 2}", session=f"c{n}", given=given)
        for n in range(start, start + count)
    ]


def player(messages: tuple[Message, ...], seed: int) -> str:
    """Knows the answer where it is told; else guesses it once in four. As an extractor it writes it down."""
    if "study one finished conversation" in messages[0].content:
        return f"- EXPERIENCE ITEM: {LEARNT}"
    told = any(LEARNT in message.content for message in messages)
    return "Blue." if told or seed % 4 == 0 else "red"


def load(path: str, model: ModelConfig) -> Policy:
    """The distilled model always knows."""
    if path.endswith("checkpoint"):
        return ScriptedPolicy(lambda messages, seed: "Blue.", name="distilled", batch_size=16)
    return ScriptedPolicy(player, batch_size=16)


CONTEXT = StageContext(load)


def config(inbox: Path, **evaluate: Any) -> OelConfig:
    cases = {"scorer": "normalised", "validation": 0.2} | evaluate
    values = {
        "model": {"path": "base"},
        "environment": {"name": "recorded"},
        "collect": {"replicas": 2, "extraction_episodes": 4},
        "knowledge": {"max_tokens": 400, "selection": {"use": "best", "episodes": 8}},
        "distill": {"steps": 2, "episodes_per_step": 4},
        "evaluate": {"held_out": "cases", "cases": cases},
        "experience": {"inbox": str(inbox), "min_episodes": 20},
        "gate": {"min_episodes": 10},
    }
    return parse_config(values, "test")


@pytest.fixture(autouse=True)
def _no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "model_digest", lambda path: "base")


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def add(inbox: Path, name: str, sessions: Sequence[Trajectory]) -> None:
    (inbox / name).write_bytes(jsonl_bytes(sessions))


def begun(run: RunFolder, settings: OelConfig, number: int, champion: int = 0) -> Round:
    assert begin(settings, run, f"t{number}", champion).round == number
    return Round(settings, run, number)


def distilled(round: Round) -> None:
    """As the stage `distill` leaves it."""

    def work(folder: Path) -> dict[str, float]:
        (folder / "checkpoint").mkdir()
        (folder / "checkpoint" / "config.json").write_text("{}")
        return {}

    round.perform("distill", (), {}, work)


def measured(round: Round, context: StageContext = CONTEXT) -> Round:
    """The round with everything up to its evaluation."""
    for stage in knowledge_stages(round.config):
        stage.work(round, context)
    select(round, context)
    distilled(round)
    for part in parts(round.config, round.number):
        evaluate(round, part, context)
    return round


def reserved(round: Round) -> list[Trajectory]:
    return [one.received.episode for one in read_jsonl(round.path / RESERVED, Reserved)]


def test_a_project_without_an_environment_has_every_figure_and_a_decision(tmp_path: Path, inbox: Path) -> None:
    add(inbox, "a.jsonl", inbox_sessions(80))
    settings = config(inbox)
    check_measuring(settings)
    round = measured(begun(open_run(tmp_path, "shop"), settings, 1))
    evaluate(round.at(0), "held_out", CONTEXT)
    figures = summarise_round(round)
    assert (figures.pass_rate, figures.in_context_pass_rate) == (1.0, 1.0)
    assert figures.start_pass_rate is not None
    assert 0 < figures.start_pass_rate < 0.6
    assert summarise_round(round.at(0)).pass_rate == figures.start_pass_rate
    assert figures.raw_pass_rate is not None
    selection = Selection.model_validate_json((round.stage("select").path / "scores.json").read_bytes())
    assert (selection.without.episodes, selection.layouts) == (8, 8)
    assert selection.chosen[0].score.pass_rate == 1.0
    gate(round, CONTEXT)
    verdict = read_verdict(round.run, 1)
    assert verdict.promote
    assert verdict.held_out.episodes == round.report("held_out").episodes == 16  # type: ignore[union-attr]


def test_sessions_that_become_cases_are_neither_extracted_from_nor_distilled(tmp_path: Path, inbox: Path) -> None:
    add(inbox, "a.jsonl", inbox_sessions(60))
    round = begun(open_run(tmp_path, "shop"), config(inbox), 1)
    collect(round, CONTEXT)
    kept = reserved(round)
    assert len(kept) == 24
    asked = {case.messages for case in read_cases(round.path / CASES)}
    assert asked == {turn.messages for episode in kept for turn in episode.turns}
    trained = [*round.trajectories(Split.EXTRACT), *round.trajectories(Split.DISTILL)]
    prompts = {turn.messages for episode in trained for turn in episode.turns}
    distil = partial_rollouts(round.config, round.trajectories(Split.DISTILL))
    prompts |= {prompt.messages for step in distil for prompt in step}
    assert prompts
    assert not prompts & asked
    assert not {episode.user for episode in trained} & {episode.user for episode in kept}
    assert sample_id(trained[0].id, 0)


def test_every_round_has_a_set_of_its_own_and_nobody_changes_sides(tmp_path: Path, inbox: Path) -> None:
    settings = config(inbox, episodes=20)
    run = open_run(tmp_path, "shop")
    add(inbox, "a.jsonl", inbox_sessions(60))
    first = begun(run, settings, 1)
    collect(first, CONTEXT)
    end(run, begin_outcome("refused", 1), 1)
    add(inbox, "b.jsonl", [*inbox_sessions(60, 200), *(again(one) for one in inbox_sessions(60))])
    second = begun(run, settings, 2)
    collect(second, CONTEXT)
    sets = [read_cases(round.path / CASES) for round in (first, second)]
    assert {case.round for case in sets[1]} == {1, 2}
    held = [{case.session for case in found if case.share == "held_out"} for found in sets]
    assert len(held[1] - held[0]) >= 12
    trained = {
        episode.user for round in (first, second) for split in (Split.EXTRACT, Split.DISTILL)
        for episode in round.trajectories(split)
    }  # fmt: skip
    assert not trained & {episode.user for round in (first, second) for episode in reserved(round)}


def again(one: Trajectory) -> Trajectory:
    """Another session of the same person about something else."""
    number = int(one.id.removeprefix("s"))
    given = [people(correction="blue")]
    return session(f"again{number}", (said(number + 1000), "green"), user=one.user, given=given)


def begin_outcome(outcome: Any, round: int) -> Any:
    from oel_core.projects.triggers import Trigger

    return Trigger(id=f"t{round}", outcome=outcome, round=round, champion=0, at=1.0)


def test_without_a_scorer_the_gate_only_holds_back_and_says_so(tmp_path: Path, inbox: Path) -> None:
    add(inbox, "a.jsonl", inbox_sessions(80))
    settings = config(inbox, scorer=None)
    settings = settings.model_copy(
        update={"knowledge": settings.knowledge.model_copy(update={"selection": type(settings.knowledge.selection)()})}
    )
    round = begun(open_run(tmp_path, "shop"), settings, 1)
    distilled(round)
    for part in ("start", "held_out"):
        evaluate(round, part, CONTEXT)
    evaluate(round.at(0), "held_out", CONTEXT)
    verdict = decide_by_bootstrap(round, 0, settings.gate)
    assert not verdict.promote
    (check,) = [check for check in verdict.checks if check.name == "scorer"]
    assert check.bound == "nothing says whether an answer is right: set evaluate.cases.scorer"


def test_a_sequential_trial_takes_the_cases_as_one_block(tmp_path: Path, inbox: Path) -> None:
    add(inbox, "a.jsonl", inbox_sessions(400))
    settings = config(inbox, held_out=0.3)
    settings = settings.model_copy(update={"gate": settings.gate.model_copy(update={"test": "sequential"})})
    round = measured(begun(open_run(tmp_path, "shop"), settings, 1))
    gate(round, CONTEXT)
    verdict = read_verdict(round.run, 1)
    assert verdict.held_out.episodes == 120
    assert [check.name for check in verdict.checks][:1] == ["better"]
    assert verdict.checks[0].passed


def test_a_set_that_changed_after_the_round_began_is_refused(tmp_path: Path, inbox: Path) -> None:
    add(inbox, "a.jsonl", inbox_sessions(40))
    round = begun(open_run(tmp_path, "shop"), config(inbox), 1)
    lines = (round.path / CASES).read_bytes().splitlines(keepends=True)
    (round.path / CASES).write_bytes(b"".join(lines[1:]))
    with pytest.raises(ArtifactError, match=r"cases\.jsonl was changed after its round began"):
        evaluate(round, "start", CONTEXT)


def test_only_the_start_model_can_be_compared_on_a_rounds_cases(tmp_path: Path, inbox: Path) -> None:
    add(inbox, "a.jsonl", inbox_sessions(40))
    run = open_run(tmp_path, "shop")
    begun(run, config(inbox), 1)
    end(run, begin_outcome("promoted", 1), 1)
    add(inbox, "b.jsonl", inbox_sessions(40, 100))
    second = begun(run, config(inbox), 2, champion=1)
    with pytest.raises(ArtifactError, match=r"round 0 was not measured on the cases of round 2"):
        decide_by_bootstrap(second, 0, second.config.gate)


def test_a_round_waits_where_too_few_sessions_can_be_trained_on(tmp_path: Path, inbox: Path) -> None:
    settings = config(inbox)
    run = open_run(tmp_path, "shop")
    add(inbox, "a.jsonl", inbox_sessions(40))
    first = begun(run, settings, 1)
    kept = reserved(first)
    end(run, begin_outcome("refused", 1), 1)
    add(inbox, "b.jsonl", [one.model_copy(update={"id": f"x{at}"}) for at, one in enumerate([*kept, *kept])])
    waiting = begin(settings, run, "t2", 0)
    assert (waiting.outcome, waiting.round) == ("waiting", None)
    assert waiting.detail.startswith("0 of 32 new episodes can be trained on")


def test_a_kill_before_the_round_is_registered_divides_alike(tmp_path: Path, inbox: Path, monkeypatch: Any) -> None:
    add(inbox, "a.jsonl", inbox_sessions(40))
    settings, run = config(inbox), open_run(tmp_path, "shop")

    def killed(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("oel_core.projects.triggers.write_start", killed)
        with pytest.raises(KeyboardInterrupt):
            begin(settings, run, "t1", 0)
    files = {name: (run.path / "round_01" / name).read_bytes() for name in (CASES, RESERVED, "inbox.jsonl")}
    round = begun(run, settings, 1)
    assert files == {name: (round.path / name).read_bytes() for name in files}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"evaluate": {"held_out": "games"}}, "cannot be played: set evaluate.held_out to cases"),
        ({"experience": {}}, "set experience.inbox"),
        ({"evaluate": {"held_out": "cases", "cases": {"scorer": "regex"}}}, "scorer regex: pattern: is missing"),
        ({"evaluate": {"held_out": "cases"}}, "score knowledge on validation cases: set evaluate.cases.scorer"),
    ],
)
def test_what_cannot_be_measured_is_said_before_the_round(tmp_path: Path, changes: Any, problem: str) -> None:
    values = config(tmp_path).model_dump(mode="json") | changes
    with pytest.raises(ConfigError, match=problem):
        check_measuring(parse_config(values, "test"))


def test_recorded_conversations_cannot_be_played(tmp_path: Path, inbox: Path) -> None:
    with pytest.raises(ConfigError, match="environment 'recorded' cannot be played"):
        collect(Round(config(inbox), open_run(tmp_path, "shop"), 1), CONTEXT)


def test_a_case_is_the_request_that_was_recorded(tmp_path: Path, inbox: Path) -> None:
    add(inbox, "a.jsonl", inbox_sessions(40))
    round = begun(open_run(tmp_path, "shop"), config(inbox), 1)
    cases: list[Case] = read_cases(round.path / CASES)
    assert {case.texts for case in cases} == {("blue",)}
    evaluate(round, "start", CONTEXT)
    episodes = read_jsonl(round.stage("evaluate/start").path / "episodes.jsonl", Trajectory)
    asked = {case.messages for case in cases if case.share == "held_out"}
    assert {episode.turns[0].messages for episode in episodes} == asked
