"""Pages for Prefect and MLflow with hostile texts in every field: displayed as text."""

from collections.abc import Callable
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from flows.pages.gate import gate_markdown
from flows.pages.measurement import measurement_markdown
from flows.pages.outcome import outcome_details, outcome_line
from flows.pages.round import outcome_markdown, report_markdown, review_markdown, round_markdown, table
from oel_core.config.run import OelConfig, parse_config
from oel_core.gate.promotion import Check
from oel_core.knowledge.store import write_knowledge
from oel_core.projects.triggers import Trigger
from oel_core.reporting.page.notes import note
from oel_core.rounds.round import Round
from oel_core.runs.folder import RunFolder, adopt_config, open_run, stage_key
from oel_core.runs.round_start import RoundStart, write_start
from oel_core.study.tables import markdown
from oel_core.text.visible import visible
from tests.builders import item, knowledge_of
from tests.flows.pages.test_measurement import report
from tests.flows.pages.test_round import row
from tests.gate.test_promotion import played, rate, results, verdict
from tests.study.test_tables import BOTH_SEEDS, cell, result

HOSTILE = (
    "a\x1b[2J\x1b]8;;https://evil.example\x1b\\x\u202e | b <script>alert(1)</script> ![x](https://evil.example/x.png) "
    "[y](javascript:alert(2)) https://evil.example www.evil.example ```\n# heading\n- item\n```"
)


def config() -> OelConfig:
    return parse_config({"description": HOSTILE, "rounds": 1, "collect": {"replicas": 1}}, "test")


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """One round whose knowledge, sources and refused lines are hostile."""
    found = open_run(tmp_path, "lake")
    adopt_config(found, config())

    def learn(folder: Path) -> dict[str, float]:
        write_knowledge(folder, 0, knowledge_of(item(HOSTILE, HOSTILE)))
        return {"tokens_mean": 3.0}

    found.perform(stage_key(config(), 1, "accumulate", ["seed"], {}), learn)
    write_start(found, 1, RoundStart(parent=0, knowledge=None, trigger="monday", inbox_left_out=(HOSTILE,)))
    return found


def gate_page() -> str:
    found = verdict(results(3, played(rate(9, 16))), results(0, played(rate(8, 16))))
    checks = (*found.checks, Check(name=HOSTILE, passed=False, value=0.0, bound=HOSTILE))
    suites = {HOSTILE: found.held_out}
    return gate_markdown(RunFolder(Path("lake")), found.model_copy(update={"checks": checks, "ood": suites}), HOSTILE)


def studied() -> str:
    cells = [cell(name, 1, "10", part=f"ood/{HOSTILE}") for name in ("own", "sft")]
    found = result(*BOTH_SEEDS, *cells, failed={HOSTILE: HOSTILE}, name=HOSTILE, preset=HOSTILE, foreign=HOSTILE)
    work = tuple(one.model_copy(update={"run": HOSTILE}) for one in found.work)
    model = {**found.settings["model"], "path": HOSTILE}
    return markdown(found.model_copy(update={"work": work, "settings": {**found.settings, "model": model}}))


TRIGGER = Trigger(id="monday", outcome="failed", round=1, detail=HOSTILE, at=0.0)
PAGES: dict[str, Callable[[RunFolder], str]] = {
    "review": lambda run: review_markdown(Round(config(), run, 1)),
    "round": lambda run: round_markdown(run, 1),
    "report": lambda run: report_markdown(run, HOSTILE),
    "outcome": lambda run: outcome_markdown(run, TRIGGER, HOSTILE),
    "note": lambda run: note(run, most=6000),
    "gate": lambda run: gate_page(),
    "rounds": lambda run: table([row(0, {}), row(1, {HOSTILE: 1.0})]),
    "measurement": lambda run: measurement_markdown(HOSTILE, HOSTILE, HOSTILE, report(**{HOSTILE: HOSTILE})),
    "study": lambda run: studied(),
}


@pytest.mark.parametrize("name", PAGES)
def test_no_text_is_structure_of_a_page(run: RunFolder, name: str) -> None:
    page = PAGES[name](run)
    assert visible(page) == page
    blocks = MarkdownIt("gfm-like", {"linkify": False}).parse(page)
    inside = [child for block in blocks for child in block.children or ()]
    assert not {token.type for token in [*blocks, *inside]} & {"html_block", "html_inline", "link_open", "code_block"}
    assert all(str(token.attrs["src"]).startswith("plots/") for token in inside if token.type == "image")
    for link in ("https://evil", "www.evil"):  # that a viewer would make a link of; within a fence it does not
        assert all(link not in block.content for block in blocks if block.type == "inline")
    headings = [blocks[place + 1].content for place, block in enumerate(blocks) if block.type == "heading_open"]
    assert "heading" not in headings


def test_what_a_state_and_a_form_say_is_one_visible_line_each(run: RunFolder) -> None:
    for line in [outcome_line(TRIGGER), *outcome_details(run, TRIGGER)]:
        assert visible(line, kept="") == line
