"""One step against the obvious computation, for full fine-tuning and for an adapter that is no longer zero."""

import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

from oel_core.compat.trl import DistillationConfig, DistillationTrainer
from oel_core.distillation.data.dataset import Step
from oel_core.distillation.distributed.ranks import SingleProcess
from oel_core.distillation.training.job import Job
from oel_core.distillation.training.rollouts import Rollout
from oel_core.distillation.training.trainer import ContextDistillationTrainer
from oel_core.models.adapters import merge_lora
from oel_core.models.loading import load_model
from oel_core.models.saving import save_model
from tests.distillation.builders import arguments
from tests.distillation.exact import assert_same_gradients, gradients, plain_loss, update_rounding
from tests.fakes import tiny_model, tiny_model_folder
from tests.rounding import in_float64, rounding

pytestmark = pytest.mark.numeric


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return tiny_model_folder(tmp_path_factory.mktemp("model"))


ALL = 259
"""Tokens of the vocabulary. Of fewer, float32 rounding decides now and then which one is the k-th."""


def make_trainer(start, workdir, **changes):
    """A trainer before its first step, and that step; it looks at all tokens unless `changes` say otherwise."""
    responses = changes.pop("responses", None)
    given = arguments(start, workdir, **{"steps": 1, "top_k": ALL, **changes}) | {"responses": responses}
    job = Job(**given)
    student, tokenizer = job.load_student()
    steps = job.build_steps(student, tokenizer)
    return job.trainer(student, tokenizer, steps, SingleProcess(), None), steps[0]


def trainer_model_config(start):
    return arguments(start, start)["model"]


def test_loss_and_gradient_equal_the_plain_computation(start, tmp_path):
    trainer, step = make_trainer(start, tmp_path, samples=10, temperature=0.7, max_response_tokens=24)
    loss = trainer.training_step(trainer.model, {"step": step})

    naive, frozen = load_model(str(start), trainer_model_config(start))[0], tiny_model()
    wanted, each = plain_loss(naive, frozen, trainer.runner.metrics.rollouts, top_k=ALL, temperature=0.7)
    wanted.backward()

    bound = update_rounding(naive, trainer.runner.metrics.rollouts, each)
    assert loss.item() == pytest.approx(wanted.item(), rel=0, abs=bound)
    assert_same_gradients(gradients(trainer.model), gradients(naive), bound)
    assert {len(rollout.response) for rollout in trainer.runner.metrics.rollouts} != {24}  # some ended by themselves


def test_micro_batching_does_not_change_the_result(start, tmp_path):
    results = []
    for tokens in (1, 250, 10**6):
        trainer, step = make_trainer(start, tmp_path / str(tokens), samples=10, micro_batch_tokens=tokens)
        results.append((trainer.training_step(trainer.model, {"step": step}), trainer))
    first, other = results[0]
    bound = update_rounding(other.model, other.runner.metrics.rollouts, [first])
    for loss, trainer in results[1:]:
        assert loss.item() == pytest.approx(first.item(), rel=0, abs=bound)
        assert_same_gradients(gradients(trainer.model), gradients(other.model), bound)


def test_responses_do_not_depend_on_the_other_samples_of_the_step(start, tmp_path):
    trainer, step = make_trainer(start, tmp_path, samples=8)
    in_float64(trainer.model)
    whole = trainer.runner.roll_out(step)
    alone = trainer.runner.roll_out(Step(step.number, step.samples[5:6]))
    assert alone[0].response == whole[5].response
    assert len({tuple(rollout.response) for rollout in whole}) > 4


@pytest.mark.parametrize("teacher_prefix", ["shared", "cached", "full"])
@pytest.mark.parametrize("modules", [["q_proj", "down_proj"], ["v_proj", "lm_head"]], ids=["layers", "head"])
def test_adapter_teacher_is_the_adapter_of_the_round_start(start, tmp_path, modules, teacher_prefix):
    """Round 2: the adapter is not zero at the start, moves, and the teacher must not move with it."""
    config = trainer_model_config(start)
    lora = {"r": 4, "target_modules": tuple(modules)}
    trainer, _ = make_trainer(start, tmp_path / "one", lora=lora)
    randomise(trainer.model, "lora_B.default")
    save_model(trainer.model, load_model(str(start), config)[1], tmp_path / "round1")

    trainer, step = make_trainer(
        tmp_path / "round1", tmp_path / "two", samples=5, lora=lora, teacher_prefix=teacher_prefix
    )
    randomise(trainer.model, "lora_B.default")  # as training would
    loss = trainer.training_step(trainer.model, {"step": step})

    frozen = merge_lora(load_model(str(tmp_path / "round1"), config)[0])
    rollouts = trainer.runner.metrics.rollouts
    found = {name: gradient.clone() for name, gradient in gradients(trainer.model).items()}
    trainer.model.zero_grad()
    wanted, each = plain_loss(trainer.model, frozen, rollouts, top_k=ALL, temperature=1.0)
    wanted.backward()
    bare, _ = plain_loss(trainer.model, tiny_model(), rollouts, top_k=ALL, temperature=1.0)
    bound = update_rounding(trainer.model, rollouts, each)
    assert loss.item() == pytest.approx(wanted.item(), rel=0, abs=bound)
    assert abs(loss.item() - bare.item()) > 0.01 > bound
    assert_same_gradients(found, gradients(trainer.model), bound)
    assert all(".default." in name for name in found)
    assert trainer.teacher.layout == teacher_prefix


def randomise(model, part):
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if part in name:
                weight.add_(torch.randn_like(weight) * 0.3)


def test_end_token_counts_and_ends_a_response(start, tmp_path):
    trainer, step = make_trainer(start, tmp_path, samples=2)
    stop = min(trainer.tokens.stops)
    ended, cut = Rollout(step.samples[0], [stop], False), Rollout(step.samples[1], [50, 51], True)
    trainer.runner.roll_out = lambda step: [ended, cut]
    trainer.training_step(trainer.model, {"step": step})
    record = trainer.runner.metrics.record(1.0, 1.0, masses=True, backtracks=0)
    assert (record.response_tokens, record.response_length, record.truncation_rate) == (3, 1.5, 0.5)
    assert record.tokens == 3 + sum(len(sample.prompt) for sample in step.samples)
    assert record.draws == tuple(sample.replica for sample in step.samples)
    total = sum(trainer.runner.metrics.sample_kl())
    assert sum(stats.kl_mean * stats.samples for stats in record.draw_kl) == pytest.approx(
        total, rel=0, abs=rounding(max(1.0, abs(total)), len(step.samples))
    )


def test_an_error_names_eight_samples_and_counts_the_others(start, tmp_path):
    trainer, step = make_trainer(start, tmp_path)
    names = [f"s{number}" for number in range(10)]
    assert "Samples: s0, s1, s2, s3, s4, s5, s6, s7 and 2 more. " in str(trainer.runner.error(step, names, "why"))
    assert "Samples: s0, s1, s2, s3, s4, s5, s6, s7. " in str(trainer.runner.error(step, names[:8], "why"))


@pytest.mark.parametrize(
    ("dtype", "lora", "mixed"), [("bfloat16", None, True), ("bfloat16", {"r": 4}, False), ("float32", None, False)]
)
def test_only_full_fine_tuning_in_bfloat16_keeps_float32_weights(tmp_path, dtype, lora, mixed):
    given = arguments(tmp_path, tmp_path, lora=lora)
    given["model"] = given["model"].model_copy(update={"dtype": dtype})
    assert Job(**given).mixed is mixed


def test_every_overridden_hook_is_one_that_the_base_calls():
    """A hook that a new version of TRL or transformers renames would silently stop being overridden."""
    own = {"_init_trl", "_trainable", "_plain_optimizer", "_optimiser_state", "run"}
    overridden = {name for name, value in vars(ContextDistillationTrainer).items() if callable(value)} - own
    assert "_save_checkpoint" in overridden
    assert {name for name in overridden if not hasattr(DistillationTrainer, name)} == set()


def test_the_padding_token_of_the_students_configuration_stays_as_it_was(start, tmp_path):
    job = Job(**arguments(start, tmp_path, steps=1))
    student, tokenizer = job.load_student()
    configs = student.config, student.generation_config
    for config in configs:
        config.pad_token_id = None
    job.trainer(student, tokenizer, job.build_steps(student, tokenizer), SingleProcess(), None).run()
    assert tokenizer.pad_token_id is not None
    assert [config.pad_token_id for config in configs] == [None, None]


def test_a_moving_teacher_follows_after_the_update_and_before_the_log(start, tmp_path):
    trainer, _ = make_trainer(start, tmp_path, steps=2, teacher="ema", ema_decay=0.5)
    before = {name: weight.clone() for name, weight in trainer.model.named_parameters()}
    seen = []
    update, append = trainer.teacher.update, trainer.outputs.log.append
    trainer.teacher.update = lambda: (seen.append(("teacher", moved(trainer.model, before))), update())
    trainer.outputs.log.append = lambda record: (seen.append(("log", record.step)), append(record))
    trainer.run()
    assert seen == [("teacher", True), ("log", 1), ("teacher", True), ("log", 2)]


def moved(model, before):
    return any(not torch.equal(weight, before[name]) for name, weight in model.named_parameters())


def test_a_process_uses_one_gpu_at_most(start, tmp_path, monkeypatch):
    trainer, _ = make_trainer(start, tmp_path)
    monkeypatch.setattr(DistillationConfig, "n_gpu", property(lambda self: 4))
    assert trainer.args.n_gpu == 1


@pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")
def test_the_trainer_does_not_import_vllm():
    program = "import sys, oel_core.compat.trl; sys.exit('vllm' in sys.modules)"
    assert subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", program], check=False).returncode == 0
