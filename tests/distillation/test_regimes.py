"""Regimes: the source of the responses, and the loss."""

from dataclasses import dataclass

import pytest
import torch

from oel_core.config.run import DistillConfig, OelConfig
from oel_core.config.sampling import Sampling
from oel_core.distillation.data.dataset import teacher_share
from oel_core.distillation.regimes import TeacherRollouts
from oel_core.distillation.training.rollouts import Sampler
from oel_core.distillation.training.run import distill
from oel_core.errors import ConfigError, DistillationError
from oel_core.models.loading import load_model
from oel_core.policies.hf import prefill
from oel_core.rounds.prompts import plan_prompts
from tests.builders import episode, turn
from tests.distillation.builders import arguments
from tests.distillation.exact import assert_same_gradients, gradients, update_rounding
from tests.distillation.training.test_run import files, lines
from tests.distillation.training.test_trainer import make_trainer, randomise
from tests.drawing import assert_drawn
from tests.fakes import tiny_model_folder

pytestmark = pytest.mark.numeric


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return tiny_model_folder(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("lora", [None, {"r": 4}], ids=["full", "lora"])
def test_teacher_rollouts_come_from_the_round_start_model_with_knowledge(start, tmp_path, lora):
    trainer, step = make_trainer(start, tmp_path, regime="teacher_rollouts", lora=lora)
    randomise(trainer.model, "lora_B.default" if lora else "up_proj")  # the student has moved, the teacher has not
    found = trainer.runner.roll_out(step)
    frozen = load_model(str(start), arguments(start, start)["model"])[0]
    sampling = Sampling(temperature=1.0, max_tokens=6)
    for rollout, sample in zip(found, step.samples, strict=True):
        assert_drawn(frozen, sample.teacher_prompt, rollout.response, sample.seed, sampling, trainer.tokens.stops)
        assert rollout.sample is sample


def test_teacher_rollouts_bring_the_student_towards_its_teacher(start, tmp_path):
    changes = {"steps": 8, "samples": 24, "learning_rate": 2e-3, "max_response_tokens": 4}
    distill(**arguments(start, tmp_path, regime="teacher_rollouts", objective="forward_kl", **changes))
    records = lines(tmp_path)
    assert records[-1].kl < records[0].kl * 0.8


def test_the_teacher_reads_its_knowledge_once_and_not_at_every_step(start, tmp_path, monkeypatch):
    monkeypatch.setattr(prefill, "WORTH_REUSING", 8)
    trainer, step = make_trainer(start, tmp_path, regime="teacher_rollouts")
    regime = TeacherRollouts(trainer.teacher, trainer.distill_config, trainer.sampler)
    first = regime.roll_out(step.samples)
    seen = []
    with trainer.teacher.generation_model() as model:
        hook = model.get_input_embeddings().register_forward_hook(lambda _, given, __: seen.append(given[0].shape[1]))
    again = regime.roll_out(step.samples)
    hook.remove()
    assert again == first
    prefixes = trainer.teacher.prefilled(range(2))
    own = [len(sample.teacher_prompt) - len(prefixes[sample.knowledge_index].ids) for sample in step.samples]
    assert seen[0] == max(own)


def test_a_frozen_teacher_answers_as_many_whole_steps_at_once_as_a_batch_holds(start, tmp_path):
    trainer, _ = make_trainer(start, tmp_path, regime="teacher_rollouts", steps=5)
    steps = [step.samples for step in trainer.train_dataset]
    sizes = []

    @dataclass(frozen=True)
    class Counting(Sampler):
        def roll_out(self, model, samples, prefilled=tuple):
            sizes.append(len(samples))
            return super().roll_out(model, samples, prefilled)

    sampler = Counting(trainer.sampler.sampling, trainer.tokens, batch_size=15)
    regime = TeacherRollouts(trainer.teacher, trainer.distill_config, sampler, steps)
    found = [rollout for samples in steps for rollout in regime.roll_out(samples)]
    assert sizes == [12, 12, 6]
    assert [rollout.sample for rollout in found] == [sample for samples in steps for sample in samples]
    frozen = load_model(str(start), arguments(start, start)["model"])[0]
    sampling = Sampling(temperature=1.0, max_tokens=6)
    for rollout in found:
        sample = rollout.sample
        assert_drawn(frozen, sample.teacher_prompt, rollout.response, sample.seed, sampling, trainer.tokens.stops)


@pytest.mark.parametrize("changes", [{"regime": "teacher_rollouts"}, {"regime": "mixture", "teacher_share": 0.5}])
def test_a_distillation_that_goes_on_within_a_batch_of_steps_changes_nothing(start, tmp_path, changes):
    def given(name):
        found = arguments(start, tmp_path / name, steps=5, **changes)
        return found | {"model": found["model"].model_copy(update={"batch_size": 18})}

    whole = distill(**given("whole"))

    def stop(record):
        if record.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        distill(**given("stopped"), on_step=stop)
    assert files(distill(**given("stopped"))) == files(whole)


@pytest.mark.parametrize(("share", "same_as"), [(0.0, "on_policy"), (1.0, "teacher_rollouts")])
def test_the_ends_of_a_mixture_are_the_other_regimes(start, tmp_path, share, same_as):
    mixed = distill(**arguments(start, tmp_path / "mixture", regime="mixture", teacher_share=share))
    pure = distill(**arguments(start, tmp_path / "pure", regime=same_as))
    assert files(mixed) == files(pure)


def test_a_mixture_has_responses_of_student_and_teacher_in_the_order_of_its_samples(start, tmp_path):
    trainer, step = make_trainer(start, tmp_path, regime="mixture", samples=16)
    randomise(trainer.model, "up_proj")  # the student has moved, the teacher has not
    taught = [sample for sample in step.samples if sample.by_teacher]
    own = [sample for sample in step.samples if not sample.by_teacher]
    assert taught
    assert own
    found = trainer.runner.roll_out(step)
    by_teacher = TeacherRollouts(trainer.teacher, trainer.distill_config, trainer.sampler).roll_out(taught)
    by_student = trainer.sampler.roll_out(trainer.model, own)
    assert found == sorted(by_teacher + by_student, key=lambda rollout: rollout.sample.index)


def test_the_share_of_the_teacher_falls_along_a_line():
    config = DistillConfig(regime="mixture", steps=5, teacher_share=1.0, teacher_share_end=0.2)
    assert [teacher_share(config, step) for step in range(1, 6)] == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])
    assert teacher_share(config.model_copy(update={"teacher_share_end": None}), 5) == 1.0
    assert teacher_share(config.model_copy(update={"steps": 1}), 1) == 1.0


def collected(given, **changes):
    """The arguments with a response for every prompt."""
    turns = [prompt for step in given["steps"] for prompt in step]
    responses = {f"{prompt.trajectory_id}/turn0": [50 + index % 7, 60, 2] for index, prompt in enumerate(turns)}
    return given | {"responses": responses} | changes


def test_sft_is_cross_entropy_with_the_collected_responses(start, tmp_path):
    given = collected(arguments(start, tmp_path))
    trainer, step = make_trainer(start, tmp_path, regime="sft", temperature=0.5, responses=given["responses"])
    loss = trainer.training_step(trainer.model, {"step": step})

    naive = load_model(str(start), given["model"])[0]
    each = []
    for sample in step.samples:
        prompt, response = list(sample.prompt), given["responses"][sample.id]
        assert list(sample.teacher_prompt) == prompt  # no knowledge is read
        logits = naive(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
        each.append(-logits.log_softmax(-1).gather(-1, torch.tensor(response)[:, None])[:, 0])
    wanted = torch.cat(each).mean()
    wanted.backward()
    bound = update_rounding(naive, trainer.runner.metrics.rollouts, [part.detach() for part in each])
    assert loss.item() == pytest.approx(wanted.item(), rel=0, abs=bound)
    assert_same_gradients(gradients(trainer.model), gradients(naive), bound)


def test_sft_learns_and_cuts_long_responses(start, tmp_path):
    distill(**collected(arguments(start, tmp_path, steps=8, regime="sft", max_response_tokens=2, top_k=1)))
    records = lines(tmp_path)
    assert records[-1].loss < records[0].loss * 0.7
    assert {(record.response_length, record.truncation_rate) for record in records} == {(2.0, 1.0)}


def test_sft_without_responses_is_refused_by_name(start, tmp_path):
    given = arguments(start, tmp_path, regime="sft")
    with pytest.raises(DistillationError, match="no response of a passed episode"):
        distill(**given)
    full = collected(given)
    full["responses"].pop("s1e2/turn0")
    with pytest.raises(DistillationError, match=r"1 prompts have no collected response, like s1e2/turn0"):
        distill(**full)


def sft_config(**changes):
    return OelConfig(distill=DistillConfig(regime="sft", steps=3, episodes_per_step=2, **changes))


def test_sft_on_rated_answers_needs_a_passed_episode_with_feedback():
    passed = [episode("a", turns=[turn(0)], reward=1.0)]
    config = sft_config()
    rated = config.experience.model_copy(update={"distill_turns": "rated", "distill_sessions": "all"})
    with pytest.raises(DistillationError, match="of 1 passed episodes none has feedback on an answer"):
        plan_prompts(config.model_copy(update={"experience": rated}), passed, seed=3)


def test_steps_of_sft_hold_passed_episodes_only_and_go_round_them_all():
    episodes = [
        episode(f"e{index}", turns=[turn(0, tokens=4), turn(1, tokens=index)], reward=float(index % 2))
        for index in range(6)
    ]
    planned = plan_prompts(sft_config(), episodes, seed=3)
    names = [[f"{prompt.trajectory_id}/turn{prompt.turn}" for prompt in step] for step in planned.steps]
    assert [len(step) for step in names] == [4, 4, 4]
    twice = [f"e{index}/turn{number}" for index in (1, 3, 5) for number in (0, 1)] * 2
    assert sorted(name for step in names for name in step) == sorted(twice)
    assert planned.responses["e3/turn1"] == (0, 1, 2)
    assert plan_prompts(sft_config(), episodes, seed=3) == planned


@pytest.mark.parametrize(
    ("tokens", "reward", "reason"), [(3, 0.0, "2 collected episodes 0 were passed"), (0, 1.0, "have no token ids")]
)
def test_sft_without_a_success_says_so(tokens, reward, reason):
    episodes = [episode(f"e{index}", turns=[turn(tokens=tokens)], reward=reward) for index in range(2)]
    with pytest.raises(DistillationError, match=reason):
        plan_prompts(sft_config(), episodes, seed=0)


@pytest.mark.parametrize(
    "changes", [{"teacher": "ema"}, {"retention": {"top_turns": 0.5}}, {"retention": {"in_context_weight": 1.0}}]
)
def test_sft_refuses_settings_that_need_a_teacher(changes):
    with pytest.raises((ConfigError, ValueError), match="regime sft reads no knowledge"):
        DistillConfig.model_validate({"regime": "sft"} | changes)


@pytest.mark.parametrize("regime", ["teacher_rollouts", "mixture", "sft"])
def test_interrupted_regimes_resume_to_the_same_bytes(start, tmp_path, regime):
    from tests.distillation.training.test_run import Abort, abort_at

    def given(name):
        found = arguments(start, tmp_path / name, regime=regime)
        return collected(found) if regime == "sft" else found

    whole = distill(**given("whole"))
    with pytest.raises(Abort):
        distill(**given("cut"), on_step=abort_at(3))
    assert files(distill(**given("cut"))) == files(whole)
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")
