"""Review: the displayed items, the effect of a decision, and the inputs of later stages and rounds."""

import json
from pathlib import Path
from typing import Any

import pytest

from flows.cli.app import call
from flows.pages.round import review_markdown
from oel_core import envs
from oel_core.config.run import ModelConfig, OelConfig, parse_config
from oel_core.errors import ConfigError, ExtractionError
from oel_core.knowledge.store import load_knowledge
from oel_core.policies.base import Policy
from oel_core.policies.scripted import ScriptedPolicy
from oel_core.projects.review import Decision, decide, decision_of, review_list
from oel_core.projects.triggers import Trigger, end
from oel_core.reporting.findings.learned import learned
from oel_core.reporting.page.render import render
from oel_core.rounds import round as rounds
from oel_core.rounds.context import StageContext
from oel_core.rounds.round import Round
from oel_core.runs.folder import RunFolder, adopt_config, open_run
from oel_core.stages.accumulate import accumulate
from oel_core.stages.collect import collect
from oel_core.stages.extract import extract
from oel_core.stages.review import REVIEW, review
from oel_core.types import Message

GOOD, BAD = "- EXPERIENCE ITEM: 'G' is the goal", "- EXPERIENCE ITEM: 'G' is deadly ```\x1b[2J"


def player(messages: tuple[Message, ...], seed: int) -> str:
    return f"{GOOD}\n{BAD}" if "study one finished episode" in messages[0].content else "[right]"


def load(path: str, model: ModelConfig) -> Policy:
    return ScriptedPolicy(player, batch_size=4)


def config(**review: Any) -> OelConfig:
    values: dict[str, Any] = {
        "environment": {"name": "corridor", "max_turns": 3},
        "collect": {"replicas": 2, "extraction_episodes": 2},
        "knowledge": {"max_tokens": 400, "carry_over": True},
        "review": {"mode": "required"} | review,
        "distill": {"steps": 1, "episodes_per_step": 1},
    }
    return parse_config(values, "test")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    monkeypatch.setitem(envs.REGISTRY, "corridor", "tests.fakes:CorridorEnv")
    monkeypatch.setattr(rounds, "model_digest", lambda path: "base")
    found = open_run(tmp_path, "run")
    adopt_config(found, config())
    collect(Round(config(), found, 1), StageContext(load))
    extract(Round(config(), found, 1), StageContext(load))
    accumulate(Round(config(), found, 1), StageContext(load))
    return found


def decision(kind: Any, *dropped: int) -> Decision:
    return Decision(decision=kind, dropped=dropped, note="why", author="ann", via="oel review", decided_at=1.0)


def test_items_are_numbered_with_their_sources_and_what_they_may_contradict(run: RunFolder) -> None:
    found = review_list(Round(config(), run, 1))
    assert [(entry.number, entry.replica, entry.conflicts) for entry in found.items] == [
        (1, 0, (2,)), (2, 0, (1,)), (3, 1, (4,)), (4, 1, (3,)),
    ]  # fmt: skip
    text = review_markdown(Round(config(), run, 1))
    assert "+    1 - EXPERIENCE ITEM: 'G' is the goal" in text
    assert "from round 1, r01-extract-k00-e0000" in text
    assert text.count("```") == 4  # an item cannot leave its block
    assert "\x1b" not in text


def test_items_of_both_replicas_are_supported_by_all_episodes_that_gave_them(run: RunFolder) -> None:
    for replica in range(2):
        found = load_knowledge(run.stage_path(1, "accumulate"), replica).items
        assert [item.support for item in found] == [2, 2]  # one used episode of each replica


@pytest.fixture
def disputed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extractor contradicts itself."""
    monkeypatch.setitem(globals(), "GOOD", "- EXPERIENCE ITEM: G -> the goal")
    monkeypatch.setitem(globals(), "BAD", "- EXPERIENCE ITEM: G -> <b>a hole</b>")


def test_contradictions_are_listed_and_nothing_is_removed(
    disputed: None, run: RunFolder, capfd: pytest.CaptureFixture[str]
) -> None:
    sentence = "Items 1, 2, 3, 4 say different things about the same: they may contradict each other."
    assert review_list(Round(config(), run, 1)).contradictions == ((1, 2, 3, 4),)
    assert sentence in review_markdown(Round(config(), run, 1))
    root = ["--root", str(run.path.parent)]
    assert call(["review", "run", *root]) == 0
    assert sentence in " ".join(capfd.readouterr().out.split())
    assert call(["review", "run", *root, "--json"]) == 0
    rows = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [row["contradictions"] for row in rows] == [[2, 3, 4], [1, 3, 4], [1, 2, 4], [1, 2, 3]]
    (round_,) = learned(config(), run)
    assert round_.contradictions == [[(0, GOOD), (0, BAD), (1, GOOD), (1, BAD)]]
    page = render(run)
    assert "1 that may contradict each other" in page
    assert "<b>a hole" not in page


def test_what_was_dropped_reaches_neither_the_teacher_nor_the_next_round(run: RunFolder) -> None:
    decide(Round(config(), run, 1), decision("approve", 2, 4))
    review(Round(config(), run, 1), StageContext(load))
    assert [entry.text for entry in Round(config(), run, 1).knowledge().knowledge] == [GOOD, GOOD]
    carried = Round(config(), run, 2).previous_knowledge()[1]
    assert carried is not None
    assert carried.text == GOOD
    assert "deadly" in load_knowledge(run.stage_path(1, "accumulate"), 0).text
    kept = Decision.model_validate_json((run.stage_path(1, "review") / REVIEW).read_bytes())
    assert (kept.author, kept.dropped, kept.note) == ("ann", (2, 4), "why")
    with pytest.raises(ConfigError, match="too late"):
        decide(Round(config(), run, 1), decision("reject"))


def test_it_is_too_late_for_a_round_that_is_over(run: RunFolder) -> None:
    end(run, Trigger(id="one", outcome="failed", round=1, at=1.0), 1)
    with pytest.raises(ConfigError, match=r"round 1 of run is over \(failed\): it is too late"):
        decide(Round(config(), run, 1), decision("approve"))


def test_without_a_decision_or_with_a_rejection_the_round_does_not_go_on(run: RunFolder) -> None:
    with pytest.raises(ExtractionError, match="waits for review: look at it with `oel review run`"):
        review(Round(config(), run, 1), StageContext(load))
    decide(Round(config(), run, 1), decision("reject"))
    with pytest.raises(ExtractionError, match=r"rejected by ann \(why\)"):
        review(Round(config(), run, 1), StageContext(load))
    decide(Round(config(), run, 1), decision("approve"))
    review(Round(config(), run, 1), StageContext(load))
    assert load_knowledge(run.stage_path(1, "review"), 0) == load_knowledge(run.stage_path(1, "accumulate"), 0)


def test_a_file_may_be_emptied_but_not_all(run: RunFolder) -> None:
    decide(Round(config(), run, 1), decision("approve", 1, 2, 3, 4))
    with pytest.raises(ExtractionError, match="left nothing of the knowledge: drop fewer items"):
        review(Round(config(), run, 1), StageContext(load))
    decide(Round(config(), run, 1), decision("approve", 1, 2))
    review(Round(config(), run, 1), StageContext(load))
    assert [entry.replica for entry in Round(config(), run, 1).knowledge().knowledge] == [1]


def test_the_command_shows_and_decides_on_files(run: RunFolder, capfd: pytest.CaptureFixture[str]) -> None:
    root = ["--root", str(run.path.parent)]
    assert call(["review", "run", *root]) == 0
    shown = capfd.readouterr().out
    assert "\x1b" not in shown
    assert "not decided" in shown
    assert call(["review", "run", *root, "--approve", "--drop", "2, 4", "--author", "bob"]) == 0
    made = decision_of(Round(config(), run, 1))
    assert made is not None
    assert (made.decision, made.dropped, made.author, made.via) == ("approve", (2, 4), "bob", "oel review")
    for wrong in (
        ["--approve", "--reject"],
        ["--drop", "1"],
        ["--approve", "--drop", "x"],
        ["--approve", "--drop", "9"],
    ):
        assert call(["review", "run", *root, *wrong]) == 2


def test_knowledge_is_shown_without_what_steers_a_terminal(run: RunFolder, capfd: pytest.CaptureFixture[str]) -> None:
    root = ["--root", str(run.path.parent)]
    assert call(["knowledge", "show", "run", "1", *root]) == 0
    shown = capfd.readouterr().out
    assert "⟨U+001B⟩[2J" in shown
    assert "\x1b[2J" not in shown
    assert call(["knowledge", "diff", "run", "1", "1", *root]) == 0
    assert "\x1b[2J" not in capfd.readouterr().out
    assert call(["knowledge", "show", "run", "1", "--replica", "7", *root]) == 2
