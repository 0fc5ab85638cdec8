"""Tables and knowledge diffs as Markdown."""

from flows.pages.round import diff_markdown, table
from oel_core.knowledge.store import KnowledgeDiff
from oel_core.rounds.summary import RoundSummary
from oel_core.types import ExperienceItem


def row(number: int, ood: dict[str, float]) -> RoundSummary:
    return RoundSummary(
        round=number,
        pass_rate=0.25,
        ci95=(0.1, 0.5),
        in_context_pass_rate=None if number == 0 else 0.5,
        raw_pass_rate=None,
        response_tokens=12.34,
        knowledge_tokens=None if number == 0 else 40.0,
        ood=ood,
    )


def test_a_table_has_a_column_for_every_suite_and_a_dash_for_what_was_not_measured() -> None:
    lines = table([row(0, {}), row(1, {"other_symbols": 1.0})]).splitlines()
    assert lines[0].endswith("| ood other\\_symbols |")
    assert lines[2] == "| 0 | 25.0% | 10.0 to 50.0 | - | - | 12.3 | - | - |"
    assert lines[3] == "| 1 | 25.0% | 10.0 to 50.0 | 50.0% | - | 12.3 | 40.0 | 100.0% |"


def test_a_diff_marks_every_line_of_an_item() -> None:
    def item(text: str) -> ExperienceItem:
        return ExperienceItem(text=text, sources=("e",), round=1, format="free_text", model="m")

    changes = KnowledgeDiff(new=(item("two\nlines"),), dropped=(item("old"),), kept=(item("same"),))
    assert diff_markdown(changes) == "```diff\n  same\n- old\n+ two\n+ lines\n```"


def test_an_item_cannot_leave_its_block_nor_steer_what_shows_it() -> None:
    hostile = ExperienceItem(
        text="a\n```\n![x](https://evil.example/x)\x1b[2J", sources=("e",), round=1, format="free_text", model="m"
    )
    shown = diff_markdown(KnowledgeDiff(new=(hostile,), dropped=(), kept=()))
    assert shown.count("```") == 2
    assert shown.endswith("\n```")
    assert "\x1b" not in shown
