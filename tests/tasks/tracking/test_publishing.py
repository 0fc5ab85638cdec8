"""What of a report goes to the tracking server."""

from oel_core.evaluation.base import summarise
from tasks.tracking.publishing import own_figures, step_rows
from tests.builders import episode, step_record


def test_a_suites_own_figures_get_names_that_the_server_takes() -> None:
    report = summarise("gsm8k", "me", [episode("a")])
    assert own_figures(report) == []
    extra = {
        "prompt_level_strict": {"value": 0.5, "low": 0.4, "high": 0.6},
        "figures": {"exact_match,strict-match": 0.25},
        "is_subset": True,
        "prompts": 12,
        "environment": "lake",
        "options": {"size": 4},
    }
    assert own_figures(report.model_copy(update={"extra": extra})) == [
        ("prompt_level_strict", 0.5),
        ("exact_match.strict-match", 0.25),
    ]


def test_a_steps_signals_are_logged_where_it_has_them() -> None:
    record = step_record(3, repetition_rate=0.25, student_mass=0.9, teacher_mass=0.8, backtracks=1)
    rows = {name: value for name, value, step in step_rows(record, 3) if step == 3}
    assert rows["train/student_mass"] == 0.9
    assert rows["train/teacher_mass"] == 0.8
    assert rows["train/repetition_rate"] == 0.25
    assert rows["train/backtracks"] == 1
    without = {name for name, _, _ in step_rows(step_record(3), 3)}
    assert rows.keys() - without == {"train/student_mass", "train/teacher_mass"}
