"""The student's micro-batches and differentiable forward; top-k, loss and gradient come from the same forward."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from typing import Any

from torch import Tensor

from oel_core.config.run import DistillConfig
from oel_core.distillation.forward.layouts import STUDENT_LAYOUTS, choose_layout
from oel_core.distillation.forward.offload import saved_in_host_memory
from oel_core.distillation.forward.packed_attention import packed_attention
from oel_core.distillation.forward.prefix_tree import as_ids, common_length, packed_tokens, sort_key
from oel_core.distillation.forward.scoring import PrefixGroup, Text, packed_hidden, padded_hidden
from oel_core.distillation.forward.split_model import SplitModel
from oel_core.distillation.training.rollouts import Rollout
from oel_core.models.adapters import plain_model


class Student:
    """The trained model, with prompts without knowledge.

    Args:
        model: causal language model on its device; its trainable parameters are updated.
        config: `student_layout`, `gradient_checkpointing`, `activation_offload` and `micro_batch_tokens` are used.
        max_length: maximum sequence length, tokens; None means the model's context length.
    """

    def __init__(self, model: Any, config: DistillConfig, max_length: int | None = None) -> None:
        self.split = SplitModel(model)
        self.layout = choose_layout(self.split, config.student_layout, STUDENT_LAYOUTS, max_length)
        self._budget, self._offload = config.micro_batch_tokens, config.activation_offload
        if config.gradient_checkpointing:
            plain_model(model).gradient_checkpointing_enable({"use_reentrant": False})

    def micro_batches(self, rollouts: Sequence[Rollout]) -> list[list[Rollout]]:
        """Micro-batches of at most `micro_batch_tokens` tokens; a longer rollout is a micro-batch of its own.

        Packed: rollouts with a common prefix are grouped, and the prefix counts once. Padded: rollouts of similar
        length are grouped, and padding counts.
        """
        return _packed_batches(rollouts, self._budget) if self.layout == "packed" else _padded(rollouts, self._budget)

    @contextmanager
    def attention_context(self) -> Iterator[None]:
        """Must cover forward and backward of a micro-batch: checkpointed layers are recomputed with its attention."""
        if self.layout == "packed":
            with packed_attention(plain_model(self.split.model)):
                yield
        else:
            yield

    def hidden(self, rollouts: Sequence[Rollout]) -> Tensor:
        """Hidden states that predict the N response tokens, in the order of the rollouts: (N, H), differentiable."""
        texts = [Text(rollout.sample.prompt, rollout.response) for rollout in rollouts]
        with saved_in_host_memory(self.split.model, self.split.device) if self._offload else nullcontext():
            if self.layout == "packed":
                return packed_hidden(self.split, [PrefixGroup(texts)])
            return padded_hidden(self.split, texts)


def _packed_batches(rollouts: Sequence[Rollout], budget: int) -> list[list[Rollout]]:
    """Greedy packing in sorted order. The final token of a rollout counts, although it is not fed to the model."""
    read = [(as_ids(rollout.sample.prompt, rollout.response[:-1]), rollout) for rollout in rollouts]
    pairs = sorted(read, key=lambda pair: sort_key(pair[0]))
    ids = [one for one, _ in pairs]
    shared = [0] + [common_length(a, b) for a, b in pairwise(ids)]
    batches: list[list[Rollout]] = []
    start = 0

    def tokens(stop: int) -> int:
        return packed_tokens(ids[start:stop], shared[start:stop]) + stop - start

    while start < len(pairs):
        stop = start + 1 + bisect_right(range(start + 2, len(pairs) + 1), budget, key=tokens)
        batches.append([rollout for _, rollout in pairs[start:stop]])
        start = stop
    return batches


def _padded(rollouts: Sequence[Rollout], budget: int) -> list[list[Rollout]]:
    batches: list[list[Rollout]] = []
    for rollout in sorted(rollouts, key=lambda rollout: rollout.length):
        if not batches or (len(batches[-1]) + 1) * rollout.length > budget:
            batches.append([])
        batches[-1].append(rollout)
    return batches
