"""Loss masks, and fully masked steps."""

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from oel_core.config.distill import DistillConfig, MaskConfig
from oel_core.config.sampling import Sampling
from oel_core.distillation.data.dataset import Step
from oel_core.distillation.distributed.ranks import SingleProcess
from oel_core.distillation.forward.student import Student
from oel_core.distillation.objectives.masks import trained_indices
from oel_core.distillation.regimes import OnPolicy
from oel_core.distillation.training import step_update
from oel_core.distillation.training.rollouts import Sampler, Tokens
from oel_core.distillation.training.run import distill
from oel_core.distillation.training.step_metrics import StepMetrics
from oel_core.distillation.training.step_update import StepUpdate
from oel_core.distillation.training.update import trained_tokens
from oel_core.errors import DistillationError
from oel_core.models.loading import load_model
from tests.distillation.builders import arguments
from tests.distillation.exact import assert_same_gradients, gradients, make_rollouts, make_teacher, update_rounding
from tests.distillation.training.test_run import LORA, Abort, abort_at, files, lines
from tests.distillation.training.test_trainer import ALL, trainer_model_config
from tests.fakes import tiny_model, tiny_model_folder
from tests.rounding import in_float64

pytestmark = pytest.mark.numeric

REPETITIVE, VARIED = [7, 8, 9, 5] * 3, list(range(10, 22))
SAMPLER = Sampler(Sampling(), Tokens(0, frozenset({2})), batch_size=1)
EVERYTHING = {"first_tokens": 6}
"""Masks whole responses: none has more tokens."""


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return tiny_model_folder(tmp_path_factory.mktemp("model"))


def rollouts():
    """Responses of 2 to 9 tokens, every third of them cut, and two of 12 that repeat themselves."""
    made = make_rollouts([(3 + index, 2 + index) for index in range(8)])
    return [
        replace(
            one,
            response=REPETITIVE if index % 4 == 3 else [20 + (7 * index + place) % 50 for place in range(2 + index)],
            truncated=index % 3 == 0,
        )
        for index, one in enumerate(made)
    ]


def exact_step(given, **changes):
    """Loss of one step and its record; the gradient is left in the student, which is the first of the models."""
    config = DistillConfig(top_k=ALL, temperature=1.0, micro_batch_tokens=150, **changes)
    student, teacher_model = in_float64(tiny_model(0)), in_float64(tiny_model(1))
    teacher = make_teacher(teacher_model, given, config)
    regime = OnPolicy(student, teacher, config, SAMPLER)
    metrics = StepMetrics(Step(1, tuple(one.sample for one in given)), given, started=0.0)
    metrics.result = StepUpdate(Student(student, config), regime, None, config, SingleProcess()).accumulate(given, ())
    return metrics.loss, metrics.record(1.0, 1.0, masses=True, backtracks=0), student, teacher_model


@pytest.mark.parametrize(
    ("mask", "kept"),
    [
        ({}, range(8)),
        ({"truncated": True}, (1, 2, 4, 5, 7)),
        ({"repetition": 0.4}, (0, 1, 2, 4, 5, 6)),
        ({"first_tokens": 4}, range(3, 8)),
        ({"truncated": True, "repetition": 0.4, "first_tokens": 3}, (2, 4, 5)),
    ],
    ids=str,
)
def test_loss_and_gradient_are_those_of_the_tokens_that_are_left(mask, kept):
    given, first = rollouts(), mask.get("first_tokens", 0)
    loss, record, student, teacher = exact_step(given, mask=mask)
    found = {name: gradient.clone() for name, gradient in gradients(student).items()}

    student.zero_grad()
    each = plain_token_losses(student, teacher, given)
    wanted = torch.cat([each[place][first:] for place in kept]).mean()
    wanted.backward()
    bound = update_rounding(student, given, [part.detach() for part in each])
    assert loss.item() == pytest.approx(wanted.item(), rel=0, abs=bound)
    assert_same_gradients(found, gradients(student), bound)
    assert record.kl == pytest.approx(float(torch.cat(each).mean().detach()), rel=0, abs=bound)  # of all tokens
    assert record.trained_turns == (len(kept) if len(kept) < 8 else None)
    trained = sum(len(given[place].response) - first for place in kept)
    assert record.trained_tokens == (trained if mask else None)


def plain_token_losses(student, teacher, rollouts):
    """With gradient."""
    each = []
    for rollout in rollouts:
        prompt, taught = list(rollout.sample.prompt), list(rollout.sample.teacher_prompt)
        p = student(torch.tensor([prompt + rollout.response])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        with torch.no_grad():
            q = teacher(torch.tensor([taught + rollout.response])).logits[0, len(taught) - 1 : -1].log_softmax(-1)
        each.append((p.exp() * (p - q)).sum(-1))
    return each


def test_top_turns_are_chosen_among_what_is_left():
    given = rollouts()
    mask = {"truncated": True, "first_tokens": 1}
    loss, record, student, teacher = exact_step(given, mask=mask, retention={"top_turns": 0.4})
    each = [part.detach()[1:] for part in plain_token_losses(student, teacher, given)]
    left = [place for place in range(8) if not given[place].truncated]
    best = sorted(left, key=lambda place: -float(each[place].mean()))[:2]
    bound = update_rounding(student, given, each)
    assert loss.item() == pytest.approx(float(torch.cat([each[place] for place in best]).mean()), rel=0, abs=bound)
    assert record.trained_turns == 2


def test_a_step_of_which_nothing_is_left_updates_nothing_and_says_so(start, tmp_path):
    retention = {"in_context_weight": 0.5}
    out = distill(**arguments(start, tmp_path, mask=EVERYTHING, retention=retention, checkpoint_every=1))
    for record in lines(tmp_path):
        assert (record.loss, record.grad_norm) == (0.0, 0.0)
        assert (record.trained_turns, record.trained_tokens) == (0, 0)
        assert record.entropy > 0
    before, after = (load_model(str(folder), trainer_model_config(start))[0].state_dict() for folder in (start, out))
    assert all(torch.equal(after[name], weight) for name, weight in before.items())


def mask_first_step(monkeypatch):
    """The first step has nothing left, the others all."""
    monkeypatch.setattr(
        step_update,
        "trained_indices",
        lambda rollouts, mask: [] if rollouts[0].sample.id.startswith("s0") else list(range(len(rollouts))),
    )


def test_the_first_update_is_the_same_whatever_was_saved_before_it(start, tmp_path, monkeypatch):
    mask_first_step(monkeypatch)
    seldom = distill(**arguments(start, tmp_path / "seldom", checkpoint_every=10))
    often = distill(**arguments(start, tmp_path / "often", checkpoint_every=1))
    with pytest.raises(Abort):
        distill(**arguments(start, tmp_path / "cut", checkpoint_every=1), on_step=abort_at(2))
    again = distill(**arguments(start, tmp_path / "cut", checkpoint_every=1))
    assert files(seldom) == files(often) == files(again)
    assert [record.trained_turns for record in lines(tmp_path / "cut")] == [0, None, None, None]


def test_masks_resume_to_the_same_bytes(start, tmp_path):
    changes = {"mask": {"truncated": True, "first_tokens": 1}, "max_response_tokens": 24, "lora": LORA}
    whole = distill(**arguments(start, tmp_path / "whole", **changes))
    with pytest.raises(Abort):
        distill(**arguments(start, tmp_path / "cut", **changes), on_step=abort_at(3))
    assert files(distill(**arguments(start, tmp_path / "cut", **changes))) == files(whole)
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")
    assert any(record.trained_turns for record in lines(tmp_path / "whole"))


def test_a_response_at_the_bound_is_kept():
    (one,) = make_rollouts([(1, 1)])
    repetitive, varied = replace(one, response=REPETITIVE), replace(one, response=VARIED)
    assert trained_indices([repetitive, varied], MaskConfig(repetition=5 / 9)) == [0, 1]  # 4 of 9 four-grams are new
    assert trained_indices([repetitive, varied], MaskConfig(repetition=5 / 9 - 0.01)) == [1]
    assert trained_indices([repetitive, varied], MaskConfig(repetition=0.0)) == [1]


@pytest.mark.parametrize("mask", [{"repetition": 1.0}, {"repetition": -0.1}, {"first_tokens": -1}, {"first": 1}])
def test_masks_that_cannot_be(mask):
    with pytest.raises(ValidationError):
        MaskConfig(**mask)


def test_a_mean_over_no_token_is_refused():
    with pytest.raises(DistillationError, match="every response token is masked"):
        trained_tokens([replace(make_rollouts([(1, 3)])[0], masked=3)])
