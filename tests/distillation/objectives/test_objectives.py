"""Objectives against the reference vectors, against their plain definitions, and against autograd of the naive form."""

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oel_core.config.run import DistillConfig
from oel_core.distillation.objectives.losses import Objective, _blocks, score
from oel_core.plugins.builtin import OBJECTIVES
from tests.rounding import rounding

pytestmark = pytest.mark.numeric

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "oel_vectors.json").read_text())["reverse_kl_top_k"]
FULL = ("reverse_kl", "forward_kl", "generalised_jsd")


def objective(name="reverse_kl_top_k", **settings):
    return Objective.named(DistillConfig(objective=name, **settings))


def logits(rows, vocabulary, seed=0, spread=3.0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(rows, vocabulary, generator=generator) * spread for _ in range(2)]


def naive(name, student, teacher, sampled, *, top_k=256, temperature=0.7, jsd_beta=0.5):
    """Per token, from full log-softmaxes and the textbook's formula, differentiable in the student."""
    s, t = (student / temperature).log_softmax(-1), (teacher / temperature).log_softmax(-1)
    kept = torch.zeros_like(s).scatter(-1, student.topk(min(top_k, s.shape[-1])).indices, 1.0)
    reverse = s.exp() * (s - t)
    if name == "reverse_kl":
        return reverse.sum(-1)
    if name == "reverse_kl_top_k":
        return (reverse * kept).sum(-1)
    if name == "forward_kl":
        return (t.exp() * (t - s)).sum(-1)
    if name == "sampled_token":
        s, t = (side.gather(-1, sampled[:, None])[:, 0] for side in (s, t))
        return (s - t).detach() * s
    if name == "generalised_jsd":
        m = (jsd_beta * t.exp() + (1 - jsd_beta) * s.exp()).log()
        return (jsd_beta * t.exp() * (t - m) + (1 - jsd_beta) * s.exp() * (s - m)).sum(-1)
    p, q = s.exp() * kept, t.exp() * kept
    if name == "reverse_kl_renormalised":
        p, q = p / p.sum(-1, keepdim=True), q / q.sum(-1, keepdim=True)
        return (p * (p / q.clamp(min=1e-30)).clamp(min=1e-30).log()).sum(-1)
    rest, rest_taught = tails(s, t, kept)
    return (reverse * kept).sum(-1) + rest * (rest / rest_taught).log()


def tails(student, teacher, kept):
    """Mass of each side outside the kept tokens, from log-probabilities."""
    return [(side.exp() * (1 - kept)).sum(-1) for side in (student, teacher)]


def exactness(student, teacher, temperature=0.7):
    """Most nats that two right orders of computing one token's value may differ by.

    The value adds V differences of log-probabilities, each weighted by a probability; a log-probability is off by what
    the largest of them is off by.
    """
    largest = max(float((side.double() / temperature).log_softmax(-1).abs().max()) for side in (student, teacher))
    return rounding(2 * largest, student.shape[-1], student.dtype)


def tail_exactness(student, teacher, top_k, temperature):
    """Most that the log of a tail's mass may be off by, in a loss that takes it from 1 less the mass of the others."""
    s, t = (side.log_softmax(-1) for side in (student / temperature, teacher / temperature))
    kept = torch.zeros_like(s).scatter(-1, student.topk(top_k).indices, 1.0)
    return rounding(1, student.shape[-1], student.dtype) / float(torch.stack(tails(s, t, kept)).min())


@pytest.mark.parametrize("case", VECTORS)
def test_reference_vectors(case):
    student, teacher = (torch.tensor(case[f"{side}_logits"]).double() for side in ("student", "teacher"))
    settings = {"top_k": case["top_k"], "temperature": case["temperature"]}
    sampled = torch.zeros(len(student), dtype=torch.long)
    plain = score(objective(**settings), student, teacher, sampled).loss
    renormalised = score(objective("reverse_kl_renormalised", **settings), student, teacher, sampled).loss
    mask = torch.tensor(case["response_mask"]) != 0

    # recorded from float32, to six decimals: a log-probability is off by what its logit and its sum's logarithm are
    largest = max(float((side / case["temperature"]).log_softmax(-1).abs().max()) for side in (student, teacher))
    off = rounding(2 * largest, 1) + rounding(1, student.shape[-1]) + rounding(float(plain.max()), case["top_k"])
    bound = 0.5e-6 + off
    for found, recorded in ((plain, "per_token_kl"), (renormalised, "per_token_kl_renormalised")):
        torch.testing.assert_close(found, torch.tensor(case[recorded]).double(), atol=bound, rtol=0)
    assert plain[mask].mean().item() == pytest.approx(case["token_mean"], rel=0, abs=bound)


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(OBJECTIVES.names()),
    tokens=st.integers(1, 6),
    vocabulary=st.integers(3, 40),
    top_k=st.integers(1, 60),
    temperature=st.sampled_from([0.3, 0.7, 1.0, 2.0]),
    beta=st.sampled_from([0.1, 0.5, 0.9]),
    seed=st.integers(0, 1000),
)
def test_value_and_gradient_are_those_of_the_definition(name, tokens, vocabulary, top_k, temperature, beta, seed):
    student, teacher = (side.double() for side in logits(tokens, vocabulary, seed, spread=1.5))
    sampled = torch.randint(0, vocabulary, (tokens,), generator=torch.Generator().manual_seed(seed))
    if name == "reverse_kl_tail":
        top_k = min(top_k, vocabulary - 1)  # the naive form divides by an empty tail
    given_ = {"top_k": top_k, "temperature": temperature, "jsd_beta": beta}

    found = score(objective(name, **given_), student, teacher, sampled)

    student.requires_grad_()
    each = naive(name, student, teacher, sampled, **given_)
    each.sum().backward()
    if name == "sampled_token":
        scaled = [(side / temperature).log_softmax(-1) for side in (student.detach(), teacher)]
        each = (scaled[0] - scaled[1]).gather(-1, sampled[:, None])[:, 0]
    bound = exactness(student.detach(), teacher, temperature)
    if name == "reverse_kl_tail":
        bound += tail_exactness(student.detach(), teacher, top_k, temperature)
    torch.testing.assert_close(found.divergence, each.detach(), atol=bound, rtol=0)
    torch.testing.assert_close(found.gradient, student.grad, atol=bound / temperature, rtol=0)


def test_top_k_beyond_the_vocabulary_is_the_full_sum():
    student, teacher = (side.double() for side in logits(4, 20))
    sampled = torch.zeros(4, dtype=torch.long)
    whole = score(objective("reverse_kl"), student, teacher, sampled)
    bound = exactness(student, teacher)
    for name in ("reverse_kl_top_k", "reverse_kl_renormalised", "reverse_kl_tail"):
        found = score(objective(name, top_k=500), student, teacher, sampled)
        torch.testing.assert_close(found.loss, whole.loss, atol=bound, rtol=0)
        torch.testing.assert_close(found.gradient, whole.gradient, atol=bound / 0.7, rtol=0)


@settings(max_examples=50, deadline=None)
@given(top_k=st.integers(1, 29), seed=st.integers(0, 500))
def test_tail_bucket_lies_between_nothing_and_the_whole_divergence(top_k, seed):
    student, teacher = (side.double() for side in logits(3, 30, seed))
    bound = exactness(student, teacher)
    sampled = torch.zeros(3, dtype=torch.long)
    bucket = score(objective("reverse_kl_tail", top_k=top_k), student, teacher, sampled).loss
    whole = score(objective("reverse_kl"), student, teacher, sampled).loss
    assert (bucket >= -bound).all()
    assert (bucket <= whole + bound).all()


def test_sampled_token_is_reverse_kl_in_expectation():
    student, teacher = (side.double() for side in logits(1, 12))
    bound = exactness(student, teacher)
    everything = student.expand(12, -1), teacher.expand(12, -1), torch.arange(12)
    each = score(objective("sampled_token"), *everything)
    probabilities = (student[0] / 0.7).softmax(-1)
    whole = score(objective("reverse_kl"), student, teacher, torch.zeros(1, dtype=torch.long))
    torch.testing.assert_close((probabilities * each.loss).sum(), whole.loss[0], atol=bound, rtol=0)
    torch.testing.assert_close(probabilities @ each.gradient, whole.gradient[0], atol=bound / 0.7, rtol=0)


def test_jsd_tends_to_forward_and_reverse_kl():
    """With m = (1 - b) p + b q the one term is off by at most b / (1 - b) sum(q |q / p - 1|), as |log(1 + b x)| is at
    most b |x| / (1 - b) for x >= -1, and the other, KL(p || m), is at most chi-squared: b² / (1 - b) sum((q - p)² / p).
    """
    student, teacher = (side.double() for side in logits(5, 9, spread=1.0))
    sampled, small = torch.zeros(5, dtype=torch.long), 1e-3
    p, q = ((side / 0.7).softmax(-1) for side in (student, teacher))
    for beta, name, near, far in ((small, "forward_kl", p, q), (1 - small, "reverse_kl", q, p)):
        found = score(objective("generalised_jsd", jsd_beta=beta), student, teacher, sampled).loss / small
        wanted = score(objective(name), student, teacher, sampled).loss
        apart = (far * (far / near - 1).abs()).sum(-1) / (1 - small) + ((far - near) ** 2 / near).sum(-1)
        assert ((found - wanted).abs() <= small * apart + exactness(student, teacher) / small).all()


def test_clip_bounds_each_token_after_the_sum_and_stops_its_gradient():
    student, teacher = logits(40, 30)
    sampled = torch.zeros(40, dtype=torch.long)
    free = score(objective(), student, teacher, sampled)
    clip = free.loss.median().item()
    clipped = score(objective(clip=clip), student, teacher, sampled)
    over = free.loss > clip
    assert 0 < over.sum() < 40
    assert torch.equal(clipped.loss, free.loss.clamp(max=clip))
    assert torch.equal(clipped.divergence, free.divergence)
    assert clipped.gradient[over].abs().max() == 0
    assert torch.equal(clipped.gradient[~over], free.gradient[~over])


@pytest.mark.parametrize("name", OBJECTIVES.names())
def test_equal_sides_have_no_divergence_and_gradients_move_no_mass(name):
    student, teacher = (side.double() for side in logits(4, 50))
    sampled, bound = torch.tensor([3, 1, 4, 1]), exactness(student, teacher)
    same = score(objective(name, top_k=8), student, student.clone(), sampled)
    torch.testing.assert_close(same.loss, torch.zeros_like(same.loss), atol=bound, rtol=0)
    other = score(objective(name, top_k=8), student, teacher, sampled)
    level = other.gradient.sum(-1)  # logits have none
    torch.testing.assert_close(level, torch.zeros_like(level), atol=bound / 0.7, rtol=0)


def test_renormalised_form_ignores_what_lies_outside_the_top():
    student, shifted = torch.tensor([[3.0, 2.0, -1.0]]), torch.tensor([[3.0, 2.0, 50.0]])  # same ratio of the kept two
    sampled = torch.zeros(1, dtype=torch.long)
    kept = {"top_k": 2, "temperature": 1.0}
    assert score(objective("reverse_kl_renormalised", **kept), student, shifted, sampled).loss.item() < rounding(50, 3)
    assert score(objective(**kept), student, shifted, sampled).loss.item() > 10


def test_log_sum_exp_is_float32_for_half_precision_logits():
    student, teacher = (side.to(torch.bfloat16) for side in logits(4, 5000, spread=1.0))
    found = score(objective(top_k=3), student, teacher, torch.zeros(4, dtype=torch.long))
    wanted = naive("reverse_kl_top_k", student.double(), teacher.double(), None, top_k=3)
    assert found.loss.dtype == found.gradient.dtype == torch.float32
    bound = exactness(student.float(), teacher.float())
    torch.testing.assert_close(found.loss.double(), wanted, atol=bound, rtol=0)


def test_entropy_of_known_distributions():
    student = torch.tensor([[0.0, 0.0, 0.0, 0.0], [100.0, 0.0, 0.0, 0.0]])
    found = score(objective(), student, student, torch.zeros(2, dtype=torch.long)).entropy
    torch.testing.assert_close(found, torch.tensor([math.log(4), 0.0]), atol=rounding(100 / 0.7, 4), rtol=0)


def test_infinite_logits_show_in_the_loss():
    student, teacher = logits(2, 6)
    teacher[1, 2] = math.nan
    found = score(objective(), student, teacher, torch.zeros(2, dtype=torch.long)).loss
    assert torch.isfinite(found).tolist() == [True, False]


def test_blocks_of_rows_fit_the_cache_and_cover_all_rows_in_order(monkeypatch):
    monkeypatch.setattr("oel_core.distillation.objectives.losses._CACHED_VALUES", 15)
    logits = torch.arange(8.0)[:, None].expand(8, 5)
    assert [logits[rows, 0].tolist() for rows in _blocks(logits)] == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert [len(logits[rows]) for rows in _blocks(logits.repeat(1, 4))] == [1] * 8  # a row is more than the cache
    elsewhere = torch.empty(8, 5, device="meta")
    assert list(_blocks(elsewhere)) == [slice(0, 8)]
    assert list(_blocks(elsewhere[:0])) == []
