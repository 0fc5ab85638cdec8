"""Moving teachers: weights after each step, no stale cache, and resuming."""

import logging

import pytest
import torch

from oel_core.distillation.distributed.ranks import SingleProcess
from oel_core.distillation.training.job import Job
from oel_core.distillation.training.run import distill
from tests.distillation.builders import arguments
from tests.distillation.training.test_run import Abort, abort_at, files, lines
from tests.distillation.training.test_trainer import make_trainer, randomise
from tests.fakes import tiny_model_folder
from tests.rounding import forward_rounding, rounding

pytestmark = pytest.mark.numeric

LORA = {"r": 4, "alpha": 8}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return tiny_model_folder(tmp_path_factory.mktemp("model"))


def trained(trainer):
    return {name: weight.detach().clone() for name, weight in trainer._trainable().items()}


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_average_follows_the_student_and_its_prefixes_are_read_again(start, tmp_path, lora):
    trainer, step = make_trainer(start, tmp_path, teacher="ema", ema_decay=0.8, lora=lora, teacher_prefix="shared")
    teacher, wanted = trainer.teacher, trained(trainer)
    rollouts = trainer.runner.roll_out(step)
    before = teacher.hidden(rollouts)
    for _ in range(3):
        randomise(trainer.model, "lora_B.default" if lora else "up_proj")
        for name, weight in trained(trainer).items():
            wanted[name] = 0.8 * wanted[name] + 0.2 * weight
        teacher.update()
        found = teacher.hidden(rollouts)
        assert not torch.allclose(found, before, atol=1e-3)
        before = found
    for name, weight in wanted.items():
        steps = rounding(float(weight.abs().max()), 2 * 3)  # two terms in each of three averages
        torch.testing.assert_close(teacher.state()[name], weight, rtol=0, atol=steps, msg=name)

    with torch.no_grad():  # the student with the averaged weights reads the same, nothing of it cached
        for name, weight in trainer._trainable().items():
            weight.copy_(wanted[name])
    plain = []
    with trainer_eval(trainer):
        for rollout in rollouts:
            ids = torch.tensor([[*rollout.sample.teacher_prompt, *rollout.response]])
            logits = trainer.model(input_ids=ids).logits[0, len(rollout.sample.teacher_prompt) - 1 : -1]
            plain.append(logits.detach())
    wanted_logits = torch.cat(plain)
    longest = max(len(rollout.sample.teacher_prompt) + len(rollout.response) for rollout in rollouts)
    bound = forward_rounding(trainer.model, wanted_logits, longest)
    torch.testing.assert_close(teacher.logits(before), wanted_logits, rtol=0, atol=bound)


def trainer_eval(trainer):
    from oel_core.policies.hf.decoding import evaluating

    return evaluating(trainer.model)


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_interrupted_average_resumes_to_the_same_bytes(start, tmp_path, lora):
    changes = {"lora": lora, "teacher": "ema", "ema_decay": 0.5, "learning_rate": 5e-3}
    whole = distill(**arguments(start, tmp_path / "whole", **changes))
    with pytest.raises(Abort):
        distill(**arguments(start, tmp_path / "cut", **changes), on_step=abort_at(3))
    assert files(distill(**arguments(start, tmp_path / "cut", **changes))) == files(whole)
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")
    frozen = distill(**arguments(start, tmp_path / "frozen", **(changes | {"teacher": "frozen"})))
    assert files(frozen) != files(whole)


def test_a_small_step_of_a_bfloat16_teacher_is_not_rounded_away(start, tmp_path):
    given = arguments(start, tmp_path, steps=1, teacher="ema", ema_decay=0.99)
    given["model"] = given["model"].model_copy(update={"dtype": "bfloat16"})
    job = Job(**given)
    student, tokenizer = job.load_student()
    teacher = job.trainer(student, tokenizer, job.build_steps(student, tokenizer), SingleProcess(), None).teacher
    name, weight = next(iter(student.named_parameters()))
    first = teacher.state()[name].clone()
    with torch.no_grad():
        weight.add_(1e-3)
    for _ in range(3):
        teacher.update()
    moved = (teacher.state()[name] - first).mean()
    # the worst case, since equal exponents round alike: half a unit in the student's step and in each of three averages
    bound = 4 * torch.finfo(torch.float32).eps / 2 * float(first.abs().max() + 1e-3)
    wanted = 1e-3 * (1 - 0.99**3)
    assert bound < 0.02 * wanted
    assert float(moved) == pytest.approx(wanted, rel=0, abs=bound)


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_live_teacher_is_the_student_with_knowledge_and_warns(start, tmp_path, lora, caplog):
    with caplog.at_level(logging.WARNING):
        trainer, step = make_trainer(start, tmp_path, teacher="live", lora=lora)
    assert "18.8% with it against 53.9%" in caplog.text
    rollouts = trainer.runner.roll_out(step)
    before = trainer.teacher.hidden(rollouts)
    randomise(trainer.model, "lora_B.default" if lora else "up_proj")
    trainer.teacher.update()
    after = trainer.teacher.hidden(rollouts)
    assert not torch.allclose(after, before, atol=1e-3)
    prompt, response = list(rollouts[0].sample.teacher_prompt), rollouts[0].response
    with trainer_eval(trainer), torch.no_grad():
        plain = trainer.model(input_ids=torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
    bound = forward_rounding(trainer.model, plain, len(prompt) + len(response))
    torch.testing.assert_close(trainer.teacher.logits(after[: len(response)]), plain, rtol=0, atol=bound)
    assert trainer.teacher.state() == {}
