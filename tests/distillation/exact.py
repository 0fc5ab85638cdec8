"""The obvious implementation of an update, and rollouts to compare with it."""

from collections.abc import Sequence
from random import Random
from typing import Any

import torch
from torch import Tensor

from oel_core.config.run import DistillConfig
from oel_core.distillation.data.dataset import Sample, Step
from oel_core.distillation.forward.student import Student
from oel_core.distillation.teachers.frozen import FrozenCopy
from oel_core.distillation.teachers.shared_prefix import find_prefixes
from oel_core.distillation.training.rollouts import Rollout
from oel_core.distillation.training.update import Scores, accumulate_gradients
from tests.rounding import chain, rounding


def make_rollouts(
    lengths: Sequence[tuple[int, int]], *, knowledge: Sequence[int] = (40, 25), system: int = 20, seed: int = 0
) -> list[Rollout]:
    """Rollouts with prompts that begin alike, of (own prompt tokens, response tokens) each, at least 1 of both."""
    random = Random(seed)

    def ids(count: int) -> list[int]:
        return [random.randrange(3, 259) for _ in range(count)]

    common, episode, files = ids(system), ids(18), [ids(count) for count in knowledge]
    rollouts = []
    for index, (own, response) in enumerate(lengths):
        file = random.randrange(len(files))
        rest = [*(episode if random.random() < 0.5 else []), *ids(own)]
        sample = Sample(f"s{index}", index, [*common, *rest], [*common, *files[file], *rest], file, file, index)
        answer = ids(response)
        if response > 1 and random.random() < 0.3:
            answer[random.randrange(response)] = 2  # the end token, anywhere
        rollouts.append(Rollout(sample, answer, truncated=False))
    return rollouts


def plain_loss(
    student: Any, teacher: Any, rollouts: Sequence[Rollout], *, top_k: int, temperature: float
) -> tuple[Tensor, list[Tensor]]:
    """Sample by sample, full forwards, full logits, one log_softmax each. Gives the mean loss and each token's."""
    each, kind = [], torch.promote_types(next(student.parameters()).dtype, torch.float32)
    for rollout in rollouts:
        prompt, taught = list(rollout.sample.prompt), list(rollout.sample.teacher_prompt)
        p = student(torch.tensor([prompt + rollout.response])).logits[0, len(prompt) - 1 : -1].to(kind)
        with torch.no_grad():
            q = teacher(torch.tensor([taught + rollout.response])).logits[0, len(taught) - 1 : -1].to(kind)
        p, q = (p / temperature).log_softmax(-1), (q / temperature).log_softmax(-1)
        kept = torch.zeros_like(p).scatter(-1, p.detach().topk(min(top_k, p.shape[-1])).indices, 1.0)
        each.append((p.exp() * (p - q) * kept).sum(-1))
    return torch.cat(each).mean(), [part.detach() for part in each]


def gradients(model: Any) -> dict[str, Tensor]:
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def update_rounding(model: Any, rollouts: Sequence[Rollout], each: Sequence[Tensor] = ()) -> float:
    """Bound on the relative difference of two ways to an update's gradient, and on that of its losses in nats.

    A gradient adds up terms p (1 + log p - log q), so its magnitude is that of the largest log-ratio.

    Args:
        model: the student, in the type it computes in.
        rollouts: of the update.
        each: losses of the response tokens, in nats; below one nat the 1 counts.
    """
    lengths = [len(rollout.sample.teacher_prompt) + len(rollout.response) for rollout in rollouts]
    nats = max([1.0, *(float(part.abs().max()) for part in each)])
    return rounding(nats, chain(model, max(lengths), sum(lengths)), next(model.parameters()).dtype)


def assert_same_gradients(found: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float) -> None:
    """Each parameter's gradient, relative to its own norm, and where that nearly vanishes to the mean one."""
    assert found.keys() == wanted.keys()
    mean = sum(float(gradient.norm()) for gradient in wanted.values()) / len(wanted)
    for name, gradient in wanted.items():
        assert (found[name] - gradient).norm() <= tolerance * max(float(gradient.norm()), mean), name


def make_teacher(model: Any, rollouts: Sequence[Rollout], config: DistillConfig) -> FrozenCopy:
    dtype = next(model.parameters()).dtype
    prefixes = find_prefixes([Step(1, tuple(rollout.sample for rollout in rollouts))])
    return FrozenCopy(model, dtype, prefixes, config)


def update(model: Any, teacher_model: Any, rollouts: Sequence[Rollout], **settings: Any) -> tuple[Scores, Student, Any]:
    """Our update on given rollouts; the gradient is left in `model`."""
    config = DistillConfig(**{"objective": "reverse_kl_top_k", "top_k": 20, "micro_batch_tokens": 150, **settings})
    teacher, student = make_teacher(teacher_model, rollouts, config), Student(model, config)
    return accumulate_gradients(student, teacher, rollouts, config), student, teacher
