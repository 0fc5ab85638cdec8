"""From a preset to the runs of a study."""

from pathlib import Path

import pytest

from oel_core.config.run import load_config, preset_names
from oel_core.errors import ConfigError, OelError
from oel_core.runs.folder import adopt_config, open_run
from oel_core.study.arms import ARMS, COMPARISONS, REFERENCE, comparisons_with
from oel_core.study.plan import FOREIGN_MODEL, StudyPlan, jobs, make_plan
from oel_core.study.writing import require_study

FOLDER = Path("/study")


def plan(preset: str = "quickstart", **changes: object) -> StudyPlan:
    values = {
        "preset": preset,
        "config": load_config(preset),
        "seeds": (4, 5),
        "arms": tuple(ARMS),
        "rounds": 2,
        "foreign": "round:1",
    }
    return StudyPlan.model_validate(values | changes)


def test_the_reference_comes_first_and_the_foreign_model_before_its_knowledge() -> None:
    found = [job.arm for job in jobs(plan(), FOLDER) if job.seed == 4]
    regimes = ["on_policy", "teacher_rollouts", "mixture", "sft"]
    assert found == [REFERENCE, "raw", FOREIGN_MODEL, "foreign", *regimes, "step_wise"]
    assert [job.name for job in jobs(plan(seeds=(4,), arms=(REFERENCE, "sft")), FOLDER)] == ["seed-4-own", "seed-4-sft"]


def test_runs_take_over_from_earlier_ones_of_their_seed_only() -> None:
    for job in jobs(plan(), FOLDER):
        assert all(donor.startswith(f"seed-{job.seed}-") for donor in job.donors)
        assert (job.donors == ()) == (job.arm == REFERENCE)


def test_arms_differ_from_the_reference_by_what_they_say_and_nothing_else() -> None:
    by_arm = {job.arm: job.config for job in jobs(plan(seeds=(4,)), FOLDER)}
    own = by_arm[REFERENCE]
    for name in ("on_policy", "teacher_rollouts", "mixture", "sft", "step_wise", "raw"):
        other = by_arm[name]
        assert other.model_copy(update={"distill": own.distill, "knowledge": own.knowledge}) == own.model_copy(
            update={"rounds": 1, "evaluate": other.evaluate}
        )
    assert by_arm["sft"].distill.regime == "sft"
    assert by_arm["step_wise"].knowledge.injection.mode == "step_wise"
    assert by_arm["teacher_rollouts"].distill.objective == "forward_kl"
    assert own.seed == 4
    assert own.rounds == 2


def test_the_reference_keeps_the_regime_of_its_preset() -> None:
    taught = load_config("quickstart", ("distill.regime=teacher_rollouts", "distill.objective=forward_kl"))
    by_arm = {job.arm: job.config.distill for job in jobs(plan(config=taught, seeds=(4,)), FOLDER)}
    assert by_arm[REFERENCE] == by_arm["raw"] == by_arm["teacher_rollouts"] == taught.distill
    assert (by_arm["on_policy"].regime, by_arm["on_policy"].objective) == ("on_policy", "reverse_kl_tail")


def test_the_foreign_model_may_be_the_own_one_after_a_round() -> None:
    found = {job.arm: job for job in jobs(plan(seeds=(4,)), FOLDER)}
    assert found[FOREIGN_MODEL].config.model.path == "/study/runs/seed-4-own/round_01/distill/checkpoint"
    assert found["foreign"].config.knowledge.source.folder == "/study/runs/seed-4-foreign-model/round_01/accumulate"
    assert found["foreign"].needs == "seed-4-foreign-model"
    assert found[FOREIGN_MODEL].needs == "seed-4-own"
    named = {job.arm: job for job in jobs(plan(seeds=(4,), foreign="seed-lm"), FOLDER)}
    assert named[FOREIGN_MODEL].config.model.path == "seed-lm"
    assert named[FOREIGN_MODEL].needs is None


@pytest.mark.parametrize("preset", preset_names())
def test_every_arm_fits_every_preset(preset: str) -> None:
    assert len(jobs(plan(preset, seeds=(1,)), FOLDER)) == len(ARMS) + 1


def test_every_row_of_a_comparison_is_of_an_arm() -> None:
    for comparison in COMPARISONS:
        for place in comparison.places:
            assert place.part == "held_out" or ARMS[place.arm].in_context


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"arms": ["sfd"]}, "no arm 'sfd'"),
        ({"arms": ["foreign"]}, "needs --foreign"),
        ({"foreign": "round:4"}, "rounds 1 to 3"),
        ({"foreign": "no/such/folder/at all"}, "no model in"),
        ({"overrides": ["review.mode=required"]}, r"review\.mode=off"),
        ({"overrides": ["distill.stesp=3"]}, "stesp"),
        ({"seeds": 0}, "--seeds 0"),
        ({"vary": ["distill.stesp=3"]}, "arm stesp_3 .* did you mean steps"),
        ({"vary": ["distill.steps"]}, "--vary distill.steps: write it as section.field=value"),
        ({"vary": ["distill.steps=0"]}, "arm steps_0 of seed 0: distill.steps"),
        ({"vary": ["distill.steps=3", "distill.steps= 3"]}, "an arm 'steps_3' already"),
        ({"vary": [""]}, "--vary : write it as"),
    ],
)
def test_what_cannot_be_run_is_refused_at_once(arguments: dict[str, object], said: str) -> None:
    with pytest.raises(OelError, match=said):
        make_plan("quickstart", **arguments)  # type: ignore[arg-type]


def test_without_a_foreign_model_its_arm_is_left_out_and_own_is_always_there() -> None:
    assert make_plan("quickstart", ["seed=10"]).seeds == (10, 11, 12)
    assert "foreign" not in make_plan("quickstart").arms
    assert make_plan("quickstart", arms=["sft"], rounds=1).arms == (REFERENCE, "sft")
    with pytest.raises(ConfigError):
        make_plan("quickstrat")


def test_settings_to_compare_are_arms_after_the_named_ones() -> None:
    two = "distill.regime=mixture  model.lora={r: 8, alpha: 16}"
    found = make_plan("quickstart", seeds=1, arms=["sft"], vary=["distill.learning_rate=1e-4", two])
    by_arm = {job.arm: job for job in jobs(found, FOLDER)}
    assert list(by_arm) == [REFERENCE, "sft", "learning_rate_1e-4", "regime_mixture_lora_r_8_alpha_16"]
    slow, mixed = list(by_arm.values())[2:]
    own = by_arm[REFERENCE].config
    assert slow.config.distill == own.distill.model_copy(update={"learning_rate": 1e-4})
    assert (slow.changed, slow.donors) == (("distill.learning_rate",), ("seed-0-own", "seed-0-sft"))
    assert slow.rounds == range(1, 2)
    assert mixed.config.distill.regime == "mixture"
    assert mixed.config.model.lora is not None
    assert mixed.config.model.lora.r == 8
    assert comparisons_with(found.varied)[-1].places[-1].label == " ".join(two.split(None, 1))


def test_a_run_is_not_taken_for_a_study(tmp_path: Path) -> None:
    require_study(tmp_path / "new")
    adopt_config(open_run(tmp_path, "run"), load_config("quickstart"))
    with pytest.raises(ConfigError, match="is a run, not a study"):
        require_study(tmp_path / "run")
