"""The report: complete, with hostile text escaped, and self-contained."""

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from oel_core import envs
from oel_core.config.knowledge import ReviewConfig
from oel_core.config.operation import GateConfig
from oel_core.config.run import ModelConfig, OelConfig, dump_config, parse_config
from oel_core.errors import ArtifactError
from oel_core.gate.ledger import close_trial, open_trial
from oel_core.gate.promotion import bootstrap_verdict
from oel_core.policies.base import Policy
from oel_core.policies.scripted import ScriptedPolicy
from oel_core.projects.review import Decision, decide
from oel_core.projects.triggers import Trigger, end
from oel_core.reporting import write_report
from oel_core.reporting.findings.gather import assessed, rounds
from oel_core.reporting.findings.learned import learned
from oel_core.reporting.page.notes import note
from oel_core.reporting.page.render import render
from oel_core.reporting.page.tables import Table
from oel_core.rounds.context import StageContext
from oel_core.rounds.round import Round
from oel_core.runs.folder import RunFolder, adopt_config, open_run, stage_key
from oel_core.runs.jsonl import jsonl_bytes
from oel_core.runs.round_start import RoundStart, write_start
from oel_core.stages import distill
from oel_core.stages.accumulate import accumulate
from oel_core.stages.collect import collect
from oel_core.stages.evaluate import evaluate
from oel_core.stages.extract import extract
from oel_core.stages.gate import STAGE as GATE
from oel_core.stages.gate import VERDICT
from oel_core.stages.review import review
from oel_core.stages.saturation import saturation
from oel_core.stages.select import select
from oel_core.types import Message
from tests.builders import step_record
from tests.gate.test_promotion import played, rate, results

HOSTILE = (
    "</pre></details><script>alert(1)</script><img src=https://evil.example/x onerror=alert(2)>"
    "<svg onload=alert(3)>{{ 7 * 7 }}{% raw %}<!-- --><a href='javascript:alert(4)'>\u202e\x00\u200b\U000e0041"
)
VOID = {"meta", "link", "br", "img", "input"}


class Reader(HTMLParser):
    """Collects tags and attributes, and notices tags that are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def player(messages: tuple[Message, ...], seed: int) -> str:
    if "study one finished episode" in messages[0].content:
        return f"- EXPERIENCE ITEM: {HOSTILE}\n- EXPERIENCE ITEM: seen {seed % 3}"
    return f"{HOSTILE} [{'right' if seed % 2 else 'left'}]"


WORLD = {"name": "corridor", "max_turns": 3}
CHANGE = {"round": 2, "options": {"size": 5}}


def load(path: str, model: ModelConfig) -> Policy:
    return ScriptedPolicy(player, batch_size=8)


def config() -> OelConfig:
    values: dict[str, Any] = {
        "description": "A <script>hostile</script> run",
        "rounds": 1,
        "environment": WORLD,
        "collect": {"replicas": 2, "extraction_episodes": 2},
        "knowledge": {
            "max_tokens": 2000,
            "selection": {"use": "best", "episodes": 4},
            "saturation": {"every": 1, "episodes": 4},
            "hygiene": {"policy": "flag"},
        },
        "distill": {"steps": 2, "episodes_per_step": 1},
        "evaluate": {"games": {"episodes": 12, "arms": ["in_context"]}},
    }
    return parse_config(values, "test")


@pytest.fixture(autouse=True)
def _world(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(envs.REGISTRY, "corridor", "tests.fakes:CorridorEnv")
    monkeypatch.setattr("oel_core.rounds.round.model_digest", lambda path: "base")


def fake_distill(run: RunFolder) -> None:
    """The folder that training would leave, for a player that has no weights."""
    step = step_record(kl=0.4, student_mass=0.9, lr=1e-4, response_tokens=4, response_length=2, wall_s=0, tokens=8)

    def work(folder: Path) -> dict[str, float]:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "steps.jsonl").write_bytes(jsonl_bytes([step, step.model_copy(update={"step": 2, "loss": 0.25})]))
        return {"steps": 2}

    run.perform(stage_key(config(), 1, "distill", distill.SECTIONS, {}), work)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    found = open_run(tmp_path, "run")
    adopt_config(found, config())
    evaluate(Round(config(), found, 0), "held_out", StageContext(load))
    collect(Round(config(), found, 1), StageContext(load))
    extract(Round(config(), found, 1), StageContext(load))
    accumulate(Round(config(), found, 1), StageContext(load))
    saturation(Round(config(), found, 1), StageContext(load))
    select(Round(config(), found, 1), StageContext(load))
    fake_distill(found)
    for part in ("in_context", "held_out"):
        evaluate(Round(config(), found, 1), part, StageContext(load))
    return found


def test_hostile_text_is_shown_and_never_live(run: RunFolder) -> None:
    decided(run, HOSTILE)
    html = write_report(run).read_text(encoding="utf-8")
    reader = read(html)
    names = {tag for tag, _ in reader.tags}
    assert not names & {"script", "img", "iframe", "object", "embed", "form", "base"}
    for tag, attributes in reader.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href"):
            value = attributes.get(name) or ""
            assert value == "" or value.startswith(("#", "data:,")), value
    assert "<script>alert(1)</script>" in reader.text  # as text
    assert "{{ 7 * 7 }}" in reader.text
    assert "⟨U+202E⟩" in reader.text
    assert not {"\u202e", "\x00", "\u200b"} & set(html)


def test_every_part_is_there(run: RunFolder) -> None:
    reader = read(render(run))
    ids = {attributes["id"] for _, attributes in reader.tags if "id" in attributes}
    assert ids >= {"rounds", "selection", "training", "knowledge", "episodes", "settings"}
    assert sum(tag == "figure" for tag, _ in reader.tags) >= 8
    for text in ("flagged by hygiene", "instruction", "best, 1 of 2 files distilled", "r01-extract-k00-e0000", "torch"):
        assert text in reader.text
    assert "won both times" in reader.text or "lost both times" in reader.text


def cells(reader: Reader) -> list[dict[str, str | None]]:
    return [attributes for tag, attributes in reader.tags if tag == "td" and attributes.get("role") == "cell"]


def test_the_verdict_comes_first_and_in_words(run: RunFolder) -> None:
    text = read(render(run)).text
    first = text.index("Is it better than before?")
    assert first < text.index("Is that more than chance?") < text.index("Which round to serve?") < text.index("Rounds")
    assert "Too little data beside the base model" in text  # 12 episodes, and the gate asks for 32
    assert "Two-sided probability of so uneven a split" in text


def test_every_cell_of_a_table_names_its_column_for_a_narrow_screen(run: RunFolder) -> None:
    decided(run, "other_symbols")
    found = cells(read(render(run)))
    assert len(found) > 40
    assert all("data-label" in attributes for attributes in found)
    assert {"pass rate", "difference", "newly won", "tokens trained on", "condition"} <= {
        str(attributes["data-label"]) for attributes in found
    }


def test_what_ended_lost_episodes_and_what_a_round_took_is_shown(run: RunFolder) -> None:
    text = read(render(run)).text
    lost = [view.failures for view in rounds(config(), run)]
    assert sum(lost[0].values()) + sum(lost[1].values()) > 0
    for kind in {*lost[0], *lost[1]}:
        assert kind in text
    assert "tokens trained on" in text
    assert rounds(config(), run)[1].effort.trained == 2 * 8


def test_loss_and_divergence_are_drawn_once_where_they_are_the_same(run: RunFolder) -> None:
    (steps,) = [view.steps for view in rounds(config(), run) if view.steps]
    assert any(step.loss != step.kl for step in steps)
    assert "Divergence from the teacher, nats a token" in read(render(run)).text
    path = run.stage_path(1, "distill") / "steps.jsonl"
    path.write_bytes(jsonl_bytes([step.model_copy(update={"kl": step.loss}) for step in steps]))
    text = read(render(run)).text
    assert "Divergence from the teacher, nats a token" not in text
    assert text.count("Loss: divergence from the teacher, nats a token") == 1


def test_champions_are_shown_over_time_and_the_last_one_is_to_be_served(run: RunFolder) -> None:
    assert "Champion over time" not in read(render(run)).text
    over = Trigger(id="t", outcome="refused", round=1, champion=0, detail=HOSTILE, at=0.0)
    end(run, over, 1)
    html = render(run)
    reader = read(html)
    assert "Champion over time" in reader.text
    assert "1970-01-01 00:00 UTC" in reader.text
    assert "It is the champion after the newest trigger" in reader.text
    assert "<script>alert(1)</script>" in reader.text
    assert "<script" not in html


def test_rounds_measured_with_other_settings_are_named_and_not_compared(run: RunFolder) -> None:
    path = run.stage_path(1, "evaluate/held_out") / "manifest.json"
    found = json.loads(path.read_text())
    found["key"]["config"]["play.history_turns"] = 7
    path.write_text(json.dumps(found))
    assessment, apart = assessed(config(), run, rounds(config(), run))
    assert assessment is None
    assert apart == [1]
    text = read(render(run)).text
    assert "Which round to serve?" not in text
    assert "Not compared, since measured with other settings than the base model: round 1." in text


def test_a_change_of_the_environment_is_said_and_drawn(run: RunFolder) -> None:
    lines = 'class="change"'
    assert lines not in render(run)
    changed = parse_config(config().model_dump() | {"environment": {**WORLD, "changes": [CHANGE]}}, "test")
    run.path.joinpath("config.yaml").write_text(dump_config(changed.model_copy(update={"rounds": 2})))
    assert lines not in render(run)  # its round is still to come
    shutil.copytree(run.path / "round_01" / "evaluate", run.path / "round_02" / "evaluate")
    for path in run.path.glob("round_02/evaluate/*/manifest.json"):
        path.write_text(path.read_text().replace("round_01", "round_02"))
    html = render(run)
    assert html.count(lines) == 3  # pass rate, length, truncation; there are no suites
    assert "From round 2 on the environment has other options (size: 5)" in read(html).text


def test_the_note_holds_the_verdict_and_the_newest_rounds_that_fit(run: RunFolder) -> None:
    whole = note(run, most=6000)
    assert whole.startswith("**Is it better than before?** Too little data beside the base model.")
    assert [line.split(" | ")[0] for line in whole.splitlines() if line.startswith("| ")][2:] == ["| 0", "| 1"]
    shorter = note(run, most=len(whole) - 1)
    assert [line.split(" | ")[0] for line in shorter.splitlines() if line.startswith("| ")][2:] == ["| 1"]
    assert len(note(run, most=50)) == 50


def test_a_note_shows_names_of_suites_as_they_are(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table(["round", "ood <b>[x](http://evil.example)|"], [["0", "1.0%"]])
    monkeypatch.setattr("oel_core.reporting.page.notes.tables.measured", lambda found: table)
    assert "| round | ood \\<b\\>\\[x\\](http\\://evil.example)\\| |" in note(run, most=6000)


def test_a_review_is_shown_with_its_author(run: RunFolder) -> None:
    made = Decision(decision="approve", dropped=(2,), note=HOSTILE, author="<b>ann", via="prefect", decided_at=1.0)
    reviewed = config().model_copy(update={"review": ReviewConfig(mode="required")})
    decide(Round(reviewed, run, 1), made)
    review(Round(reviewed, run, 1), StageContext(load))
    reader = read(render(run))
    assert "Reviewed: approve by <b>ann (prefect), items 2 left out: </pre>" in reader.text


def test_the_same_files_give_the_same_bytes(run: RunFolder) -> None:
    assert write_report(run).read_bytes() == write_report(run).read_bytes()
    assert "viewport" in render(run)


def test_an_unfinished_run_is_reported_as_far_as_it_has_come(tmp_path: Path) -> None:
    run = open_run(tmp_path, "new")
    adopt_config(run, config())
    assert "Nothing has been measured yet" in read(render(run)).text
    evaluate(Round(config(), run, 0), "held_out", StageContext(load))
    collect(Round(config(), run, 1), StageContext(load))
    assert "No knowledge yet" in read(render(run)).text


def decided(run: RunFolder, suite: str) -> None:
    """The folder that the gate of round 1 would leave, after a measurement on one more suite."""
    sides = [results(number, played(rate(passed)), **{suite: rate(64)}) for number, passed in ((1, 90), (0, 20))]
    verdict = bootstrap_verdict(GateConfig(margin=0.125), *sides, sides[1], seed=0)

    def work(folder: Path) -> dict[str, float]:
        (folder / VERDICT).write_text(verdict.model_dump_json())
        return {}

    run.perform(stage_key(config(), 1, GATE, (), {}), work)


def test_a_verdict_is_shown_with_every_condition_and_comparison(run: RunFolder) -> None:
    assert "Promotion gate" not in read(render(run)).text
    decided(run, "other_symbols")
    text = read(render(run)).text
    assert "Round 1 against the base model: promote" in text
    for cell in ("at least 0.95 of the draws are better by more than 0.125", "ood/other_symbols", "+54.7", "15.6%"):
        assert cell in text
    assert "unreadable" not in text


def test_trials_are_shown_with_the_error_budget_that_is_left(run: RunFolder) -> None:
    assert "Error budget of the gate" not in read(render(run)).text
    close_trial(run, open_trial(run, 1, "d", 0, 0.05), promoted=False, evidence=0.0, episodes=64)
    text = read(render(run)).text
    for said in ("Error budget of the gate", "refuse", "1 trial, 0 promoted", "the next trial has level 0.0042"):
        assert said in text


def test_a_damaged_verdict_is_an_error_that_names_the_file(run: RunFolder) -> None:
    decided(run, "other_symbols")
    (run.stage_path(1, GATE) / VERDICT).write_text("{}")
    with pytest.raises(ArtifactError, match=r"gate\.json is not a Verdict: promote"):
        render(run)


def test_knowledge_is_compared_with_what_the_round_went_on_from(run: RunFolder) -> None:
    """The gate refused round 1, so round 2 went on from nothing; it has one replica more, too."""
    more = config().model_copy(update={"rounds": 2, "collect": config().collect.model_copy(update={"replicas": 3})})
    write_start(run, 2, RoundStart(parent=0, knowledge=None, trigger="two"))
    collect(Round(more, run, 2), StageContext(load))
    extract(Round(more, run, 2), StageContext(load))
    accumulate(Round(more, run, 2), StageContext(load))
    adopt_config(run, more, since=2)
    first, second = learned(more, run)
    assert [len(view.files) for view in (first, second)] == [2, 3]
    assert all(file.gone == 0 and file.new == len(file.items) for file in second.files)
    assert "Replica 2" in read(render(run)).text
