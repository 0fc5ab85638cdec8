"""Step records, and statistics by knowledge file."""

from oel_core.distillation.training.step_records import ReplicaKl, StepRecord, kl_by_replica
from tests.builders import step_record

SOMETIMES = {
    "student_mass": 0.9,
    "teacher_mass": 0.8,
    "backtracks": 1,
    "terms": {"replay": 0.1},
    "trained_tokens": 9,
    "trained_turns": 2,
}
"""Fields of a step in which they mean something."""


def test_a_line_holds_what_a_step_has_and_nothing_else():
    plain, full = step_record(), step_record(**SOMETIMES)
    assert plain.model_dump().keys() == StepRecord.model_fields.keys() - SOMETIMES.keys()
    assert full.model_dump().keys() == StepRecord.model_fields.keys()
    for record in (plain, full):
        assert StepRecord.model_validate_json(record.model_dump_json()) == record


def test_each_file_has_mean_and_population_deviation_over_its_samples():
    assert kl_by_replica((4, 1, 4), (1.0, 5.0, 5.0)) == (
        ReplicaKl(replica=1, samples=1, kl_mean=5.0, kl_sd=0.0),
        ReplicaKl(replica=4, samples=2, kl_mean=3.0, kl_sd=2.0),
    )
