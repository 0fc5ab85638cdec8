"""Objectives against the reference vectors, against a plain loop, and against autograd of the naive form."""

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oel_core.distillation.losses import (
    entropy,
    reverse_kl_top_k,
    reverse_kl_top_k_renormalised,
    top_k_log_probs,
)

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "oel_vectors.json").read_text())["reverse_kl_top_k"]


@pytest.mark.parametrize("case", VECTORS)
def test_reference_vectors(case):
    student, teacher = torch.tensor(case["student_logits"]), torch.tensor(case["teacher_logits"])
    mask = torch.tensor(case["response_mask"])
    arguments = (student, teacher, case["top_k"], case["temperature"], mask)
    everywhere = (student, teacher, case["top_k"], case["temperature"], torch.ones_like(mask))

    plain = reverse_kl_top_k(*everywhere).per_token
    renormalised = reverse_kl_top_k_renormalised(*everywhere).per_token

    torch.testing.assert_close(plain, torch.tensor(case["per_token_kl"]), atol=1e-4, rtol=0)
    torch.testing.assert_close(renormalised, torch.tensor(case["per_token_kl_renormalised"]), atol=1e-4, rtol=0)
    assert reverse_kl_top_k(*arguments).token_mean.item() == pytest.approx(case["token_mean"], abs=1e-4)


def plain_loop(student, teacher, top_k, temperature):
    """The definition, one float at a time."""

    def log_softmax(row):
        scaled = [value / temperature for value in row]
        top = max(scaled)
        total = top + math.log(sum(math.exp(value - top) for value in scaled))
        return [value - total for value in scaled]

    tokens = []
    for s_row, t_row in zip(student, teacher, strict=True):
        s, t = log_softmax(s_row), log_softmax(t_row)
        best = sorted(range(len(s)), key=lambda token: -s[token])[:top_k]
        tokens.append(sum(math.exp(s[token]) * (s[token] - t[token]) for token in best))
    return tokens


@settings(max_examples=60, deadline=None)
@given(
    tokens=st.integers(1, 6),
    vocabulary=st.integers(2, 12),
    top_k=st.integers(1, 20),
    temperature=st.sampled_from([0.3, 0.7, 1.0, 2.0]),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_equals_the_definition_for_any_shape(tokens, vocabulary, top_k, temperature, seed, data):
    generator = torch.Generator().manual_seed(seed)
    student = torch.randn(tokens, vocabulary, generator=generator) * 3
    teacher = torch.randn(tokens, vocabulary, generator=generator) * 3
    mask = data.draw(st.lists(st.integers(0, 1), min_size=tokens, max_size=tokens).filter(any))

    found = reverse_kl_top_k(student, teacher, top_k, temperature, torch.tensor(mask))

    each = plain_loop(student.tolist(), teacher.tolist(), top_k, temperature)
    wanted = [kl * kept for kl, kept in zip(each, mask, strict=True)]
    torch.testing.assert_close(found.per_token, torch.tensor(wanted), atol=1e-4, rtol=1e-4)
    assert found.token_mean.item() == pytest.approx(sum(wanted) / sum(mask), abs=1e-4, rel=1e-4)


def test_gradient_is_that_of_the_naive_full_computation():
    torch.manual_seed(0)
    logits = torch.randn(5, 30, dtype=torch.float32)
    teacher = torch.randn(5, 30)

    ours = logits.clone().requires_grad_()
    reverse_kl_top_k(ours, teacher, 7, 0.7, torch.ones(5)).token_mean.backward()

    naive = logits.clone().requires_grad_()
    p, q = (naive / 0.7).log_softmax(-1), (teacher / 0.7).log_softmax(-1)
    chosen = torch.zeros_like(logits).scatter(-1, logits.topk(7).indices, 1.0)
    (p.exp() * (p - q) * chosen).sum().div(5).backward()

    torch.testing.assert_close(ours.grad, naive.grad, atol=1e-7, rtol=1e-5)
    assert ours.grad.abs().max() > 1e-3


def test_nothing_flows_into_the_teacher_and_padding_gives_no_gradient():
    student, teacher = torch.randn(3, 8, requires_grad=True), torch.randn(3, 8, requires_grad=True)
    reverse_kl_top_k(student, teacher, 4, 1.0, torch.tensor([1, 0, 1])).token_mean.backward()
    assert teacher.grad is None
    assert student.grad[1].abs().max() == 0
    assert student.grad[0].abs().max() > 0


def test_masked_positions_may_hold_anything():
    student, teacher = torch.zeros(2, 4), torch.zeros(2, 4)
    teacher[1] = float("nan")
    assert reverse_kl_top_k(student, teacher, 4, 1.0, torch.tensor([1, 0])).token_mean.item() == 0.0


def test_renormalised_form_ignores_what_lies_outside_the_top():
    student = torch.tensor([[3.0, 2.0, -1.0]])
    shifted = torch.tensor([[3.0, 2.0, 50.0]])  # same ratio of the two kept tokens
    mask = torch.ones(1)
    assert reverse_kl_top_k_renormalised(student, shifted, 2, 1.0, mask).token_mean.item() == pytest.approx(0, abs=1e-5)
    assert reverse_kl_top_k(student, shifted, 2, 1.0, mask).token_mean.item() > 10


def test_log_sum_exp_is_float32_for_half_precision_logits():
    torch.manual_seed(1)
    logits = torch.randn(4, 5000, dtype=torch.bfloat16)
    found, indices = top_k_log_probs(logits, 3, 0.7)
    wanted = (logits.double() / 0.7).log_softmax(-1).gather(-1, indices)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), wanted, atol=1e-5, rtol=0)


def test_entropy_of_known_distributions():
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [100.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(entropy(logits, 0.7), torch.tensor([math.log(4), 0.0]), atol=1e-6, rtol=0)
