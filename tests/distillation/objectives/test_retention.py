"""Retention terms: exact against the plain computation, effective, and resumable."""

import json
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given as hypothesis_given
from hypothesis import strategies as st

from oel_core.config.run import DistillConfig
from oel_core.distillation.objectives.retention import of_some_files
from oel_core.distillation.objectives.top_turns import top_turns
from oel_core.distillation.training.rollouts import Rollout
from oel_core.distillation.training.run import distill
from oel_core.errors import ArtifactError, DistillationError
from oel_core.models.loading import load_model
from oel_core.policies.text.chat import prompt_ids
from oel_core.prompts.play import with_knowledge
from oel_core.types import Message
from tests.distillation.builders import KNOWLEDGE, arguments, prompts
from tests.distillation.exact import assert_same_gradients, gradients, plain_loss, update_rounding
from tests.distillation.training.test_run import Abort, abort_at, files, lines
from tests.distillation.training.test_trainer import ALL, make_trainer, randomise
from tests.fakes import tiny_model, tiny_model_folder

pytestmark = pytest.mark.numeric

LORA = {"r": 4, "alpha": 8}
GENERAL = ("What is the capital of France?", "Count to five.", "zzzz")


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return tiny_model_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def general(tmp_path_factory):
    path = tmp_path_factory.mktemp("replay") / "general.jsonl"
    path.write_text("".join(json.dumps({"messages": [{"role": "user", "content": t}]}) + "\n" for t in GENERAL))
    return path


def divergence(model, frozen, ids, response):
    """Mean KL(model || frozen) over the response tokens, differentiable."""
    whole, first = torch.tensor([[*ids, *response]]), len(ids) - 1
    p = model(input_ids=whole).logits[0, first:-1].log_softmax(-1)
    with torch.no_grad():
        q = frozen(input_ids=whole).logits[0, first:-1].log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1)


def assert_term(trainer, step, name, others, weight=0.5):
    """The step's loss and gradient with one term, which is KL(student || start) on `others` of its rollouts."""
    randomise(trainer.model, "up_proj")
    loss = trainer.training_step(trainer.model, {"step": step})
    found = {weight: gradient.clone() for weight, gradient in gradients(trainer.model).items()}
    rollouts, frozen = trainer.runner.metrics.rollouts, tiny_model()

    trainer.model.zero_grad()
    distilled, each = plain_loss(trainer.model, frozen, rollouts, top_k=ALL, temperature=1.0)
    read = [(one.sample.teacher_prompt, one.response) for one in others(rollouts)]
    kept = torch.cat([divergence(trainer.model, frozen, prompt, response) for prompt, response in read]).mean()
    (distilled + weight * kept).backward()
    bound = update_rounding(trainer.model, rollouts, [*each, kept.detach()])
    assert loss.item() == pytest.approx((distilled + weight * kept).item(), rel=0, abs=bound)
    assert trainer.runner.metrics.record(1.0, 1.0, masses=True, backtracks=0).terms == {
        name: pytest.approx(kept.item(), rel=0, abs=bound)
    }
    assert_same_gradients(found, gradients(trainer.model), bound)


def test_in_context_term_is_the_whole_kl_of_both_models_with_knowledge(start, tmp_path):
    trainer, step = make_trainer(start, tmp_path, retention={"in_context_weight": 0.5})
    assert_term(trainer, step, "in_context", list)


def test_in_context_term_reads_the_rollouts_of_some_files_only(start, tmp_path):
    trainer, step = make_trainer(
        start, tmp_path, samples=6, retention={"in_context_weight": 0.5, "in_context_files": 1}
    )
    randomise(trainer.model, "up_proj")
    trainer.training_step(trainer.model, {"step": step})
    rollouts, frozen = trainer.runner.metrics.rollouts, tiny_model()
    kept = {
        file: torch.cat(
            [
                divergence(trainer.model, frozen, one.sample.teacher_prompt, one.response)
                for one in rollouts
                if one.sample.knowledge_index == file
            ]
        ).mean()
        for file in {one.sample.knowledge_index for one in rollouts}
    }
    bound = update_rounding(trainer.model, rollouts, [one.detach() for one in kept.values()])
    found = trainer.runner.metrics.record(1.0, 1.0, masses=True, backtracks=0).terms["in_context"]
    assert len(kept) == 2
    assert sum(abs(float(one) - found) <= bound for one in kept.values()) == 1


def test_files_are_sampled_anew_for_every_step(start, tmp_path):
    _, step = make_trainer(start, tmp_path, samples=6)
    rollouts = [Rollout(sample, [70], truncated=False) for sample in step.samples]
    first_files = set()
    for seed in range(20):
        of_step = [replace(one, sample=replace(one.sample, seed=seed)) for one in rollouts]
        chosen = of_some_files(of_step, 1)
        assert chosen == of_some_files(of_step, 1)
        first_files |= {one.sample.knowledge_index for one in chosen}
        assert of_some_files(of_step, None) == of_some_files(of_step, 9) == of_step
    assert first_files == {one.sample.knowledge_index for one in rollouts}


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_terms_hold_to_the_round_start_although_the_teacher_moves(start, tmp_path, general, lora):
    """Where the student is the round-start model both terms are zero, where it has moved they are not."""
    retention = {"in_context_weight": 1.0, "replay": {"path": str(general), "prompts_per_step": 2}}
    trainer, step = make_trainer(start, tmp_path, teacher="ema", ema_decay=0.0, lora=lora, retention=retention)
    trainer.training_step(trainer.model, {"step": step})
    bound = update_rounding(trainer.model, trainer.runner.metrics.rollouts)
    assert trainer.runner.metrics.record(1.0, 1.0, masses=True, backtracks=0).terms == pytest.approx(
        {"in_context": 0.0, "replay": 0.0}, rel=0, abs=bound
    )
    randomise(trainer.model, "lora_B.default" if lora else "up_proj")
    trainer.teacher.update()  # with a decay of 0 it is the student now
    trainer.training_step(trainer.model, {"step": step})
    assert min(trainer.runner.metrics.record(1.0, 1.0, masses=True, backtracks=0).terms.values()) > 0.01


def in_context_drift(folder, start):
    """How far the model with knowledge is from what it was."""
    model, tokenizer = load_model(str(folder), arguments(start, start)["model"])
    asked = [with_knowledge(p.messages, text) for p in prompts(1, 3)[0] for text in KNOWLEDGE]
    return drift(model, [prompt_ids(tokenizer, messages, thinking=False) for messages in asked])


def general_drift(folder, start):
    """How far the model is from what it was on general prompts."""
    model, tokenizer = load_model(str(folder), arguments(start, start)["model"])
    asked = [(Message(role="user", content=text),) for text in GENERAL]
    return drift(model, [prompt_ids(tokenizer, messages, thinking=False) for messages in asked])


@torch.no_grad()
def drift(model, asked):
    return sum(float(divergence(model, tiny_model(), ids, [70, 71, 72]).mean()) for ids in asked) / len(asked)


@pytest.mark.parametrize("term", ["in_context", "replay"])
def test_each_term_keeps_what_it_is_for(start, tmp_path, general, term):
    retention = {
        "in_context": {"in_context_weight": 3.0},
        "replay": {"replay": {"path": str(general), "weight": 3.0, "prompts_per_step": 6}},
    }[term]
    measured = {"in_context": in_context_drift, "replay": general_drift}[term]
    changes = {"steps": 8, "samples": 6, "learning_rate": 2e-3}
    free = distill(**arguments(start, tmp_path / "free", **changes))
    held = distill(**arguments(start, tmp_path / "held", retention=retention, **changes))
    assert measured(held, start) < 0.6 * measured(free, start)
    assert all(set(record.terms) == {term} for record in lines(tmp_path / "held"))
    assert all(record.terms is None for record in lines(tmp_path / "free"))
    assert b"terms" not in (tmp_path / "free" / "steps.jsonl").read_bytes()


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_everything_at_once_resumes_to_the_same_bytes(start, tmp_path, general, lora):
    retention = {
        "in_context_weight": 0.3,
        "replay": {"path": str(general), "prompts_per_step": 2},
        "top_turns": 0.5,
    }
    changes = {"teacher": "ema", "ema_decay": 0.7, "retention": retention, "lora": lora}
    whole = distill(**arguments(start, tmp_path / "whole", **changes))
    with pytest.raises(Abort):
        distill(**arguments(start, tmp_path / "cut", **changes), on_step=abort_at(3))
    assert files(distill(**arguments(start, tmp_path / "cut", **changes))) == files(whole)
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")


def test_only_the_turns_that_differ_most_are_trained_on(start, tmp_path):
    trainer, step = make_trainer(start, tmp_path, samples=8, retention={"top_turns": 0.25})
    loss = trainer.training_step(trainer.model, {"step": step})
    found = {name: gradient.clone() for name, gradient in gradients(trainer.model).items()}
    rollouts, record = (
        trainer.runner.metrics.rollouts,
        trainer.runner.metrics.record(1.0, 1.0, masses=True, backtracks=0),
    )

    frozen = tiny_model()
    _, each = plain_loss(trainer.model, frozen, rollouts, top_k=ALL, temperature=1.0)
    best = sorted(range(8), key=lambda index: -float(each[index].mean()))[:2]
    trainer.model.zero_grad()
    wanted, _ = plain_loss(trainer.model, frozen, [rollouts[i] for i in sorted(best)], top_k=ALL, temperature=1.0)
    wanted.backward()
    bound = update_rounding(trainer.model, rollouts, each)
    assert loss.item() == pytest.approx(wanted.item(), rel=0, abs=bound)
    assert_same_gradients(found, gradients(trainer.model), bound)
    assert record.trained_turns == 2
    assert record.kl == pytest.approx(float(torch.cat(each).mean()), rel=0, abs=bound)  # of all turns


def test_a_long_trajectory_does_not_take_the_places_of_short_ones():
    names, values = ["long"] * 4 + ["a", "b"], [9.0, 8.0, 7.0, 6.0, 1.0, 2.0]
    assert top_turns(names, values, 0.5) == [0, 4, 5]
    assert top_turns(names, values, 0.6) == [0, 1, 4, 5]
    assert top_turns(names, values, 0.1) == [0]
    assert top_turns(["e"] * 30, [0.0] * 30, 0.1) == [0, 1, 2]


@hypothesis_given(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(-5, 5)), min_size=1, max_size=20), st.floats(0.01, 1)
)
def test_as_many_turns_as_wanted_and_the_best_of_each_trajectory(turns, share):
    names, values = [name for name, _ in turns], [value for _, value in turns]
    kept = top_turns(names, values, share)
    assert len(kept) == math.ceil(share * len(turns) - 1e-9)
    for name in set(names):
        inside = [values[i] for i in kept if names[i] == name]
        outside = [values[i] for i in range(len(turns)) if names[i] == name and i not in kept]
        assert not inside or not outside or min(inside) >= max(outside)
        for other in set(names) - {name}:
            taken = sum(names[i] == other for i in kept)
            assert not outside or taken <= len(inside) + 1


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ("", DistillationError, "holds no prompts"),
        ('{"messages": []}\n', ArtifactError, "general.jsonl"),
        (json.dumps({"messages": [{"role": "user", "content": "x" * 3000}]}) + "\n", DistillationError, r":1: .*over"),
        (None, ArtifactError, "cannot be read"),
    ],
    ids=["empty", "no messages", "too long", "missing"],
)
def test_unusable_replay_files_are_named(start, tmp_path, content, error, message):
    path = tmp_path / "general.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(error, match=message):
        distill(**arguments(start, tmp_path / "work", retention={"replay": {"path": str(path)}}))


def test_changed_replay_file_does_not_go_on_with_started_work(start, tmp_path, general):
    path = tmp_path / "general.jsonl"
    path.write_bytes(general.read_bytes())
    given = arguments(start, tmp_path / "work", retention={"replay": {"path": str(path)}})
    with pytest.raises(Abort):
        distill(**given, on_step=abort_at(2))
    path.write_bytes(general.read_bytes()[:-40])
    with pytest.raises(ArtifactError, match="replay: "):
        distill(**given)


def test_retention_is_off_by_default():
    settings = DistillConfig().retention
    assert (settings.in_context_weight, settings.replay, settings.top_turns) == (0.0, None, None)
