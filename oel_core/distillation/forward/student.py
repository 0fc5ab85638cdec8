"""The student: one forward of prompt and response that top-k, loss and gradient all come from."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from oel_core.config.run import DistillConfig
from oel_core.distillation.forward.layouts import STUDENT_LAYOUTS, choose_layout
from oel_core.distillation.forward.packed_attention import packed_attention
from oel_core.distillation.forward.prefix_tree import WORTH_SHARING, as_ids, common_length, sort_key
from oel_core.distillation.forward.scoring import Behind, Text, packed_hidden, padded_hidden
from oel_core.distillation.forward.split_model import SplitModel
from oel_core.distillation.training.rollouts import Rollout
from oel_core.models.loading import plain_model


class Student:
    """Reads prompts without knowledge.

    Args:
        model: causal language model on its device; its trainable parameters are what learns.
        config: `student_layout`, `gradient_checkpointing` and `micro_batch_tokens` are looked at.
        longest: tokens of the longest sequence to come; None means the model's whole context.
    """

    def __init__(self, model: Any, config: DistillConfig, longest: int | None = None) -> None:
        self.split = SplitModel(model)
        self.form = choose_layout(self.split, config.student_layout, STUDENT_LAYOUTS, longest)
        self._budget = config.micro_batch_tokens
        if config.gradient_checkpointing:
            plain_model(model).gradient_checkpointing_enable({"use_reentrant": False})

    def micro_batches(self, rollouts: Sequence[Rollout]) -> list[list[Rollout]]:
        """Groups of at most `micro_batch_tokens` tokens, or of one rollout that is longer than that.

        Packed: prompts that begin alike come together, and what they share counts once. Padded: rollouts of similar
        length come together, and padding counts.
        """
        return _packed_batches(rollouts, self._budget) if self.form == "packed" else _padded(rollouts, self._budget)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Around forward and backward of a micro-batch, because recomputed layers must attend as they did."""
        if self.form == "packed":
            with packed_attention(plain_model(self.split.model)):
                yield
        else:
            yield

    def hidden(self, rollouts: Sequence[Rollout]) -> Tensor:
        """Hidden states that predict the N response tokens, in the order of the rollouts: (N, H), differentiable."""
        texts = [Text(rollout.sample.prompt, rollout.response) for rollout in rollouts]
        return packed_hidden(self.split, [Behind(texts)]) if self.form == "packed" else padded_hidden(self.split, texts)


def _packed_batches(rollouts: Sequence[Rollout], budget: int) -> list[list[Rollout]]:
    read = [(as_ids(rollout.sample.prompt, rollout.response), rollout) for rollout in rollouts]
    batches: list[list[Rollout]] = []
    used, before = 0, None
    for ids, rollout in sorted(read, key=lambda pair: sort_key(pair[0])):
        common = common_length(before, ids) if before is not None else 0
        own = len(ids) - (common if common >= WORTH_SHARING else 0)
        if not batches or used + own > budget:
            batches.append([])
            used, own = 0, len(ids)
        batches[-1].append(rollout)
        used, before = used + own, ids
    return batches


def _padded(rollouts: Sequence[Rollout], budget: int) -> list[list[Rollout]]:
    batches: list[list[Rollout]] = []
    for rollout in sorted(rollouts, key=lambda rollout: rollout.length):
        if not batches or (len(batches[-1]) + 1) * rollout.length > budget:
            batches.append([])
        batches[-1].append(rollout)
    return batches
