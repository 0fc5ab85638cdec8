"""The update against the plain implementation, for every layout, and its errors."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Cohere2Config,
    CohereConfig,
    FalconMambaConfig,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    Qwen3MoeConfig,
)

import oel_core.distillation.training.update as update_module
from oel_core.config.run import DistillConfig
from oel_core.distillation.forward.packed_attention import NAME
from oel_core.distillation.forward.student import Student
from oel_core.distillation.objectives.losses import Objective
from oel_core.distillation.training.rollouts import Rollout
from oel_core.distillation.training.update import accumulate_gradients, check_rollouts, chunks
from oel_core.errors import DistillationError
from tests.distillation.exact import (
    assert_same_gradients,
    gradients,
    make_rollouts,
    make_teacher,
    plain_loss,
    update,
    update_rounding,
)
from tests.fakes import tiny_model
from tests.rounding import in_float64, require_bfloat16_attention

pytestmark = pytest.mark.numeric

LENGTHS = [(1, 1), (12, 9), (30, 4), (7, 20), (7, 1), (25, 25), (3, 2), (1, 40)]
LAYOUTS = [
    ("packed", "shared"),
    ("packed", "cached"),
    ("padded", "shared"),
    ("padded", "cached"),
    ("padded", "full"),
]


BOTH = pytest.mark.parametrize("exact", [True, False], ids=["float64", "float32"])
"""float64 leaves no room for a fault of the logic; float32 is what the kernels are used in."""


def models(exact, build=tiny_model):
    """Student and teacher."""
    return [in_float64(build(seed)) if exact else build(seed) for seed in (0, 1)]


def check(model, teacher_model, rollouts, *, top_k=20, temperature=0.7, **settings):
    """Loss and gradient of our update and of the plain one."""
    scores, student, teacher = update(model, teacher_model, rollouts, top_k=top_k, temperature=temperature, **settings)
    found = gradients(model)
    model.zero_grad()
    wanted, each = plain_loss(model, teacher_model, rollouts, top_k=top_k, temperature=temperature)
    wanted.backward()
    bound = update_rounding(model, rollouts, each)
    assert scores.loss.item() == pytest.approx(wanted.item(), rel=0, abs=bound)
    for ours, theirs in zip(scores.losses, each, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=bound)
    assert_same_gradients(found, gradients(model), bound)
    return student.layout, teacher.layout


@BOTH
@pytest.mark.parametrize(("student_layout", "teacher_prefix"), LAYOUTS)
def test_every_layout_gives_the_plain_loss_and_gradient(student_layout, teacher_prefix, exact):
    settings = {"student_layout": student_layout, "teacher_prefix": teacher_prefix}
    assert check(*models(exact), make_rollouts(LENGTHS), **settings) == (student_layout, teacher_prefix)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    lengths=st.lists(st.tuples(st.integers(1, 30), st.integers(1, 12)), min_size=1, max_size=7),
    knowledge=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    system=st.integers(1, 30),
    top_k=st.sampled_from([1, 5, 40, 259, 1000]),
    tokens=st.sampled_from([1, 60, 5000]),
    temperature=st.sampled_from([0.7, 1.0, 1.6]),
    layout=st.sampled_from(LAYOUTS),
    seed=st.integers(0, 10**6),
)
def test_any_rollouts_give_the_plain_loss_and_gradient(
    lengths, knowledge, system, top_k, tokens, temperature, layout, seed
):
    rollouts = make_rollouts(lengths, knowledge=knowledge, system=system, seed=seed)
    settings = {"student_layout": layout[0], "teacher_prefix": layout[1], "micro_batch_tokens": tokens}
    # in float32 rounding decides now and then which token is the k-th, and a loss would differ by that token's term
    check(*models(exact=True), rollouts, top_k=top_k, temperature=temperature, **settings)


@BOTH
@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_chunks_of_the_vocabulary_projection_change_nothing(monkeypatch, layout, exact):
    rollouts = make_rollouts(LENGTHS)
    (whole, teacher), (chunked, _) = models(exact), models(exact)
    scores, _, _ = update(whole, teacher, rollouts, student_layout=layout)
    monkeypatch.setitem(update_module.CHUNK_BYTES, "cpu", 4 * 259 * 5 * 3)  # three tokens at a time
    again, _, _ = update(chunked, teacher, rollouts, student_layout=layout)
    bound = update_rounding(whole, rollouts, scores.losses)
    torch.testing.assert_close(torch.cat(again.losses), torch.cat(scores.losses), rtol=0, atol=bound)
    torch.testing.assert_close(torch.cat(again.entropy), torch.cat(scores.entropy), rtol=0, atol=bound)
    assert_same_gradients(gradients(chunked), gradients(whole), bound)


@pytest.mark.parametrize(
    ("room", "tokens", "sizes"), [(8, 20, [7, 7, 6]), (8, 8, [8]), (8, 9, [5, 4]), (8, 1, [1]), (0.5, 3, [1, 1, 1])]
)
def test_chunks_are_as_few_as_there_is_room_for_and_evenly_spread(monkeypatch, room, tokens, sizes):
    objective = Objective.named(DistillConfig())
    monkeypatch.setitem(update_module.CHUNK_BYTES, "cpu", int(4 * 100 * objective.passes * room))
    found = list(chunks(tokens, 100, objective, torch.device("cpu")))
    assert [len(range(tokens)[rows]) for rows in found] == sizes
    assert [place for rows in found for place in range(tokens)[rows]] == list(range(tokens))


def test_empty_responses_are_named_eight_at_most():
    empty = [Rollout(one.sample, [], truncated=True) for one in make_rollouts([(2, 1)] * 9)]
    with pytest.raises(DistillationError) as error:
        check_rollouts(empty)
    assert str(error.value).count(",") == 7


def test_each_response_position_is_projected_once_and_few_at_a_time(monkeypatch):
    monkeypatch.setitem(update_module.CHUNK_BYTES, "cpu", 4 * 259 * 5 * 8)
    rollouts, config, model = make_rollouts(LENGTHS), DistillConfig(top_k=20), tiny_model()
    student, teacher = Student(model, config), make_teacher(tiny_model(1), rollouts, config)
    seen = []
    model.lm_head.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[-2]))
    scores = accumulate_gradients(student, teacher, rollouts, config)
    assert max(seen) <= 8
    assert sum(seen) == scores.tokens == sum(response for _, response in LENGTHS)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradient_checkpointing_recomputes_and_changes_nothing(checkpointing):
    model = tiny_model().train()
    calls = []
    model.model.layers[0].mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    config = {"gradient_checkpointing": checkpointing, "micro_batch_tokens": 10**6, "student_layout": "packed"}
    assert check(model, tiny_model(1), make_rollouts(LENGTHS), **config) == ("packed", "shared")
    assert model.config._attn_implementation != NAME
    reads = len(calls) - len(LENGTHS) * (1 + checkpointing)  # the plain loss reads each rollout
    assert reads - 3 == 1 + checkpointing  # choosing the form reads three times


@pytest.mark.parametrize("checkpointing", [False, True])
def test_activations_in_host_memory_give_the_same_bits(checkpointing, monkeypatch):
    moved = []

    def counted(tensor):  # on a CPU nothing would move
        moved.append(tensor.untyped_storage().data_ptr())
        return tensor.clone()

    monkeypatch.setattr(torch.autograd.graph.save_on_cpu, "__init__", lambda self, **_: pass_through(self, counted))
    found = []
    for offload in (False, True):
        model = tiny_model().train()
        storages = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
        settings = {"gradient_checkpointing": checkpointing, "activation_offload": offload}
        update(model, tiny_model(1), make_rollouts(LENGTHS), **settings)
        found.append(gradients(model))
        assert bool(moved) == offload
    assert not storages & set(moved), "weights stay on the device"
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def pass_through(hooks, pack):
    """`save_on_cpu` with a function in place of the copy to host memory."""
    torch.autograd.graph.saved_tensors_hooks.__init__(hooks, lambda tensor: (pack(tensor),), lambda packed: packed[0])


def test_bfloat16_is_right_within_its_rounding():
    """As far off as the plain computation in bfloat16, each against the one in float32."""
    require_bfloat16_attention()
    rollouts = make_rollouts(LENGTHS)
    exact = tiny_model()
    wanted, each = plain_loss(exact, tiny_model(1), rollouts, top_k=20, temperature=0.7)
    wanted.backward()
    found = {}
    for name in ("ours", "plain"):
        model, teacher = tiny_model().to(torch.bfloat16), tiny_model(1).to(torch.bfloat16)
        if name == "ours":
            losses = update(model, teacher, rollouts)[0].losses
        else:
            loss, losses = plain_loss(model, teacher, rollouts, top_k=20, temperature=0.7)
            loss.backward()
        errors = torch.cat(losses) - torch.cat(each)
        off = max(
            float((ours.float() - gradient).norm() / gradient.norm())
            for ours, gradient in zip(gradients(model).values(), gradients(exact).values(), strict=True)
        )
        found[name] = errors, off
    errors = found["plain"][0]
    # both means are off by independent errors of this size
    assert abs(found["ours"][0].mean()) < 6 * (2 / len(errors)) ** 0.5 * errors.square().mean().sqrt()
    # the smallest weight has 32 entries, so norms of their errors scatter by 1 / sqrt(64): four times that
    assert found["ours"][1] < 1.5 * found["plain"][1]


SMALL = {
    "vocab_size": 259,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
ARCHITECTURES = {
    "llama": (LlamaConfig(**SMALL), "packed", "shared"),
    "granite_scales_logits": (GraniteConfig(**SMALL, logits_scaling=3.0), "packed", "shared"),
    "cohere_scales_logits": (CohereConfig(**SMALL, logit_scale=0.5), "packed", "shared"),
    "mixture_of_experts": (
        Qwen3MoeConfig(**SMALL, head_dim=8, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16),
        "packed",
        "shared",
    ),
    "rotary_in_part": (GPTNeoXConfig(**SMALL), "packed", "shared"),
    "learned_positions": (
        GPT2Config(vocab_size=259, n_embd=32, n_layer=2, n_head=4, n_positions=512, initializer_range=0.2),
        "packed",
        "shared",
    ),
    "window_wider_than_all": (MistralConfig(**SMALL, sliding_window=1024), "packed", "shared"),
    "window": (MistralConfig(**SMALL, sliding_window=24), "padded", "cached"),
    "window_in_half": (Cohere2Config(**SMALL, sliding_window=24), "padded", "cached"),
    "capped_scores": (Gemma2Config(**SMALL, head_dim=8, sliding_window=24), "padded", "cached"),
    "position_bias": (BloomConfig(vocab_size=259, hidden_size=32, n_layer=2, n_head=4), "padded", None),
    "state_space": (
        FalconMambaConfig(vocab_size=259, hidden_size=16, num_hidden_layers=2, state_size=4, pad_token_id=0),
        "padded",
        "full",
    ),
}


SINGLE = {
    "cohere_scales_logits",
    "window_in_half",
    "capped_scores",
    "position_bias",
    "state_space",
    "mixture_of_experts",
}
"""Have a norm, a bias or a product of experts that transformers computes in float32, whatever the weights."""


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_any_architecture_is_read_in_a_form_that_is_exact_for_it(name):
    config, student_form, teacher_form = ARCHITECTURES[name]

    def build(seed):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return AutoModelForCausalLM.from_config(config).eval()

    found = check(*models(name not in SINGLE, build), make_rollouts(LENGTHS[1:6]))
    assert found[0] == student_form
    assert teacher_form in (None, found[1])


def test_a_wanted_form_that_would_be_wrong_is_refused():
    model = AutoModelForCausalLM.from_config(MistralConfig(**SMALL, sliding_window=24))
    with pytest.raises(DistillationError, match=r"MistralForCausalLM.*'packed'.*window of 24 tokens"):
        Student(model, DistillConfig(student_layout="packed"))


def test_choosing_a_form_leaves_the_model_as_it_was():
    model = tiny_model().train()
    before = model.config._attn_implementation
    state = torch.get_rng_state()
    Student(model, DistillConfig())
    assert model.training
    assert model.config._attn_implementation == before
    assert torch.equal(torch.get_rng_state(), state)
    assert "forward" not in model.model.__dict__
    assert not model.lm_head._forward_pre_hooks
    assert not model.model._forward_hooks


def test_empty_responses_and_nothing_are_refused():
    rollouts = make_rollouts(LENGTHS)
    config = DistillConfig()
    student, teacher = Student(tiny_model(), config), make_teacher(tiny_model(), rollouts, config)
    with pytest.raises(DistillationError, match=r"empty responses.*s3"):
        accumulate_gradients(student, teacher, [*rollouts[:3], Rollout(rollouts[3].sample, [], True)], config)
    with pytest.raises(DistillationError, match="no rollouts"):
        accumulate_gradients(student, teacher, [], config)


def test_a_teacher_with_another_vocabulary_is_refused():
    rollouts = make_rollouts(LENGTHS)
    config = DistillConfig()
    other = AutoModelForCausalLM.from_config(LlamaConfig(**{**SMALL, "vocab_size": 300}))
    with pytest.raises(DistillationError, match="student's vocabulary has 259 tokens, the teacher's 300"):
        accumulate_gradients(Student(tiny_model(), config), make_teacher(other, rollouts, config), rollouts, config)
