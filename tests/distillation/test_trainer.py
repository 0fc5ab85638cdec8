"""One step against the obvious computation, for full fine-tuning and for an adapter that is no longer zero."""

import pytest
import torch

from oel_core.distillation.dataset import Step
from oel_core.distillation.rollouts import Rollout
from oel_core.distillation.run import _Job
from oel_core.distillation.scoring import pack, response_logits
from oel_core.models import load_model, merge_lora, save_model
from tests.distillation.builders import arguments
from tests.fakes import tiny_model, tiny_model_folder


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return tiny_model_folder(tmp_path_factory.mktemp("model"))


def make_trainer(start, workdir, **changes):
    """A trainer before its first step, and that step."""
    given = arguments(start, workdir, steps=1, **changes)
    given["prompts"] = given.pop("steps")
    job = _Job(**given)
    student, tokenizer = job.load_student()
    steps = job.build_steps(student, tokenizer)
    return job.trainer(student, tokenizer, steps, None), steps[0]


def trainer_model_config(start):
    return arguments(start, start)["model"]


def gradients(trainer):
    return {name: weight.grad for name, weight in trainer.model.named_parameters() if weight.grad is not None}


def plain_loss(student, teacher, rollouts, *, top_k, temperature):
    """Sample by sample, full forwards, full logits, one log_softmax each."""
    total, tokens = torch.zeros(()), 0
    for rollout in rollouts:
        prompt, taught = list(rollout.sample.prompt), list(rollout.sample.taught_prompt)
        p = student(torch.tensor([prompt + rollout.response])).logits[0, len(prompt) - 1 : -1]
        with torch.no_grad():
            q = teacher(torch.tensor([taught + rollout.response])).logits[0, len(taught) - 1 : -1]
        p, q = (p / temperature).log_softmax(-1), (q / temperature).log_softmax(-1)
        kept = torch.zeros_like(p).scatter(-1, p.detach().topk(top_k).indices, 1.0)
        total = total + (p.exp() * (p - q) * kept).sum()
        tokens += len(rollout.response)
    return total / tokens


def assert_same_gradients(found, wanted, tolerance):
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        scale = gradient.abs().max().clamp(min=1e-6)
        assert (found[name] - gradient).abs().max() / scale < tolerance, name


def test_loss_and_gradient_equal_the_plain_computation(start, tmp_path):
    trainer, step = make_trainer(start, tmp_path, samples=10, temperature=0.7, max_response_tokens=24)
    loss = trainer.training_step(trainer.model, {"step": step})

    naive, frozen = load_model(str(start), trainer_model_config(start))[0], tiny_model()
    wanted = plain_loss(naive, frozen, trainer._tally.rollouts, top_k=20, temperature=0.7)
    wanted.backward()

    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    wanted_gradients = {name: weight.grad for name, weight in naive.named_parameters()}
    assert_same_gradients(gradients(trainer), wanted_gradients, 1e-4)
    assert {len(rollout.response) for rollout in trainer._tally.rollouts} != {24}  # some ended by themselves


def test_micro_batching_does_not_change_the_result(start, tmp_path):
    results = []
    for size in (1, 3, 10):
        trainer, step = make_trainer(start, tmp_path / str(size), samples=10, micro_batch=size)
        results.append((trainer.training_step(trainer.model, {"step": step}), trainer))
    for loss, trainer in results[1:]:
        assert loss.item() == pytest.approx(results[0][0].item(), rel=1e-6, abs=1e-6)
        for name, gradient in gradients(results[0][1]).items():
            torch.testing.assert_close(gradients(trainer)[name], gradient, atol=1e-6, rtol=1e-4)


def test_responses_do_not_depend_on_the_other_samples_of_the_step(start, tmp_path):
    trainer, step = make_trainer(start, tmp_path, samples=8)
    whole = trainer._roll_out(step)
    alone = trainer._roll_out(Step(step.number, step.samples[5:6]))
    assert alone[0].response == whole[5].response
    assert len({tuple(rollout.response) for rollout in whole}) > 4


def test_adapter_teacher_is_the_adapter_of_the_round_start(start, tmp_path):
    """Round 2: the adapter is not zero at the start, moves, and the teacher must not move with it."""
    config = trainer_model_config(start)
    trainer, _ = make_trainer(start, tmp_path / "one", lora={"r": 4})
    randomise(trainer.model, "lora_B.default")
    save_model(trainer.model, load_model(str(start), config)[1], tmp_path / "round1")

    trainer, step = make_trainer(tmp_path / "round1", tmp_path / "two", samples=5, lora={"r": 4})
    randomise(trainer.model, "lora_B.default")  # as training would
    loss = trainer.training_step(trainer.model, {"step": step})

    frozen = merge_lora(load_model(str(tmp_path / "round1"), config)[0])
    rollouts = trainer._tally.rollouts
    wanted = plain_loss(trainer.model, frozen, rollouts, top_k=20, temperature=1.0)
    bare = plain_loss(trainer.model, tiny_model(), rollouts, top_k=20, temperature=1.0)
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-4)
    assert abs(loss.item() - bare.item()) > 0.01
    touched = gradients(trainer)
    assert touched
    assert all(".default." in name for name in touched)


def randomise(model, part):
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if part in name:
                weight.add_(torch.randn_like(weight) * 0.3)


def test_only_response_positions_reach_the_vocabulary(start, tmp_path):
    model = tiny_model()
    seen = []
    model.lm_head.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    prompts, responses = [[3, 4, 5], [6], [7, 8]], [[9], [10, 11, 12], [13, 14]]
    logits = response_logits(model, model.lm_head, prompts, responses, pad_id=0)
    assert seen == [(6, 259)]
    row = 0
    for prompt, response in zip(prompts, responses, strict=True):
        alone = model(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
        torch.testing.assert_close(logits[row : row + len(response)], alone, atol=1e-5, rtol=1e-5)
        row += len(response)
    assert not model.lm_head._forward_pre_hooks


def test_packing_marks_what_predicts_each_response_token():
    ids, predicts = pack([[1, 2], [3]], [[4], [5, 6, 7]], pad_id=0)
    assert ids.tolist() == [[1, 2, 4, 0], [3, 5, 6, 7]]
    assert predicts.tolist() == [[False, True, False, False], [True, True, True, False]]


def test_end_token_counts_and_ends_a_response(start, tmp_path):
    trainer, step = make_trainer(start, tmp_path, samples=2)
    stop = min(trainer.tokens.stops)
    ended, cut = Rollout(step.samples[0], [stop], False), Rollout(step.samples[1], [50, 51], True)
    trainer._roll_out = lambda step: [ended, cut]
    trainer.training_step(trainer.model, {"step": step})
    record = trainer._tally.record(1.0, 1.0)
    assert (record.response_tokens, record.response_length, record.truncation_rate) == (3, 1.5, 0.5)
    assert record.draws == tuple(sample.replica for sample in step.samples)
    assert sum(stats.kl_mean * stats.samples for stats in record.draw_kl) == pytest.approx(
        sum(trainer._tally.sample_kl()), rel=1e-5
    )
