"""The frozen teacher, a copy of the round's start, and the interface of all teachers.

A teacher returns hidden states for a whole micro-batch, since these are small, and logits for one chunk of tokens at a
time, together with the student's, so no tensor of (tokens, vocabulary) is kept.
"""

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from oel_core.config.run import DistillConfig
from oel_core.distillation.forward.layouts import TEACHER_LAYOUTS, choose_layout
from oel_core.distillation.forward.scoring import PrefixGroup, Text, packed_hidden, padded_hidden
from oel_core.distillation.forward.split_model import SplitModel
from oel_core.distillation.teachers.shared_prefix import PrefixCache, Prefixes, PrefixStore, compute_prefix
from oel_core.distillation.training.rollouts import Rollout
from oel_core.errors import ArtifactError
from oel_core.models.adapters import ADAPTER, copy_adapter, use_adapter
from oel_core.policies.hf.decoding import evaluating
from oel_core.policies.hf.prefix_cache import CachedSequence

_PADDED_BATCH_FACTOR = 4
"""Teacher batch size where the KV cache is repeated per row, in multiples of `micro_batch_tokens` (no gradient)."""


class Teacher(Protocol):
    """Computes the target distribution at the response tokens."""

    @property
    def vocabulary(self) -> int:
        """V: rows of its output projection."""
        ...

    def hidden(self, rollouts: Sequence[Rollout]) -> Tensor:
        """Hidden states with the teacher's prompts: (N, H), response tokens in the order of the rollouts."""
        ...

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits of a chunk of hidden states: (n, H) to (n, V), without gradient."""
        ...

    def generation_model(self) -> AbstractContextManager[Any]:
        """A context with the teacher's weights active, to generate from the yielded model."""
        ...

    def prefilled(self, knowledge_indices: Iterable[int]) -> list[CachedSequence]:
        """Keys and values of the prefixes of these knowledge files, to generate from in `generation_model`."""
        ...

    def update(self) -> None:
        """Called after each optimizer step: updates a moving teacher, and drops what it cached."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Tensors that a checkpoint needs besides the student's; empty for a frozen teacher."""
        ...

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores the tensors of `state`. ArtifactError where the names differ."""
        ...


class PrefixReader:
    """Computes hidden states of teacher prompts from the cached prefix of their knowledge file.

    Args:
        split: the teacher's model.
        prefixes: from `find_prefixes`; prompts of a file without one are computed in full.
        config: `teacher_prefix`, the prefix budgets and `micro_batch_tokens` are used.
        max_length: maximum sequence length, tokens; None means the model's context length.
    """

    def __init__(self, split: SplitModel, prefixes: Prefixes, config: DistillConfig, max_length: int | None) -> None:
        self.split = split
        self.layout = choose_layout(split, config.teacher_prefix, TEACHER_LAYOUTS, max_length)
        known = {} if self.layout == "full" else {index: ids for index, ids in prefixes.items() if ids}
        self.store = PrefixStore(known, config.prefix_cache_gb * 1e9, config.prefix_spill_gb * 1e9)
        self._batch_tokens = config.micro_batch_tokens * _PADDED_BATCH_FACTOR

    @torch.no_grad()
    def hidden(self, rollouts: Sequence[Rollout]) -> Tensor:
        """As `Teacher.hidden`."""
        found: list[Tensor] = [torch.empty(0)] * len(rollouts)
        for members, hidden in self._pieces(rollouts):
            lengths = [len(rollouts[index].response) for index in members]
            for index, rows in zip(members, hidden.split(lengths), strict=True):
                found[index] = rows
        return torch.cat(found)

    @torch.no_grad()
    def prefilled(self, knowledge_indices: Iterable[int]) -> list[CachedSequence]:
        """As `Teacher.prefilled`; files without a prefix are left out."""
        found = []
        for knowledge_index in sorted(set(knowledge_indices) & self.store.prefixes.keys()):
            cache = self.store.get(knowledge_index, partial(compute_prefix, self.split))
            layers = tuple((keys[0], values[0]) for keys, values in map(cache.layer, range(len(cache.tensors))))
            found.append(CachedSequence(tuple(self.store.prefixes[knowledge_index]), layers))
        return found

    def _pieces(self, rollouts: Sequence[Rollout]) -> Iterator[tuple[list[int], Tensor]]:
        """Indices of some rollouts, and their hidden states."""
        together: list[tuple[list[int], PrefixCache]] = []
        for knowledge_index, members in self._by_knowledge(rollouts).items():
            if knowledge_index is None:
                yield from (self._packs if self.layout == "shared" else self._rows)(rollouts, members)
                continue
            cache = self.store.get(knowledge_index, partial(compute_prefix, self.split))
            if self.layout == "cached":
                yield from self._rows(rollouts, members, cache)
            elif cache.kept:
                together.append((members, cache))
            else:  # over the cache budget: one prefix in memory at a time
                yield self._shared(rollouts, [(members, cache)])
        if together:
            yield self._shared(rollouts, together)

    def _by_knowledge(self, rollouts: Sequence[Rollout]) -> dict[int | None, list[int]]:
        """Indices of the rollouts by knowledge file; None where the prompt does not start with a cached prefix."""
        found: dict[int | None, list[int]] = {}
        for index, rollout in enumerate(rollouts):
            prefix = self.store.prefixes.get(rollout.sample.knowledge_index)
            fits = prefix is not None and list(rollout.sample.teacher_prompt[: len(prefix)]) == list(prefix)
            found.setdefault(rollout.sample.knowledge_index if fits else None, []).append(index)
        return found

    def _shared(
        self, rollouts: Sequence[Rollout], groups: Sequence[tuple[list[int], PrefixCache]]
    ) -> tuple[list[int], Tensor]:
        parts = [
            PrefixGroup([_text(rollouts[index], cache.length) for index in members], cache, cache.length)
            for members, cache in groups
        ]
        return [index for members, _ in groups for index in members], packed_hidden(self.split, parts)

    def _packs(self, rollouts: Sequence[Rollout], members: Sequence[int]) -> Iterator[tuple[list[int], Tensor]]:
        """Packed batches of whole prompts, what they have in common computed once."""
        for part in self._batches(rollouts, members):
            yield part, packed_hidden(self.split, [PrefixGroup([_text(rollouts[index], 0) for index in part])])

    def _rows(
        self, rollouts: Sequence[Rollout], members: Sequence[int], cache: PrefixCache | None = None
    ) -> Iterator[tuple[list[int], Tensor]]:
        """Padded batches, each row with its own copy of the prefix."""
        for part in self._batches(rollouts, members):
            yield part, self._rectangle(rollouts, part, cache)

    def _batches(self, rollouts: Sequence[Rollout], members: Sequence[int]) -> Iterator[list[int]]:
        """The members in batches of similar length, within the budget."""
        part: list[int] = []
        for index in sorted(members, key=lambda index: rollouts[index].teacher_length):
            if part and (len(part) + 1) * rollouts[index].teacher_length > self._batch_tokens:
                yield part
                part = []
            part.append(index)
        yield part

    def _rectangle(self, rollouts: Sequence[Rollout], members: Sequence[int], cache: PrefixCache | None) -> Tensor:
        texts = [_text(rollouts[index], cache.length if cache is not None else 0) for index in members]
        return padded_hidden(self.split, texts, cache and cache.for_rows(len(texts)))


def _text(rollout: Rollout, start: int) -> Text:
    return Text(rollout.sample.teacher_prompt[start:], rollout.response)


class BaseTeacher:
    """Forward passes of a teacher, inside the context that activates its weights; `update` leaves them unchanged."""

    def __init__(self, model: Any, prefixes: Prefixes, config: DistillConfig, max_length: int | None) -> None:
        with self._active(model):
            self._reader = PrefixReader(SplitModel(model), prefixes, config, max_length)

    @contextmanager
    def _active(self, model: Any) -> Iterator[None]:
        with evaluating(model):
            yield

    @property
    def layout(self) -> str:
        """`shared`, `cached` or `full`, as `distill.teacher_prefix`."""
        return self._reader.layout

    @property
    def vocabulary(self) -> int:
        return self._reader.split.vocabulary

    def clear_prefixes(self) -> None:
        """Drops the cached prefixes; they are recomputed at the next use."""
        self._reader.store.clear()

    @contextmanager
    def generation_model(self) -> Iterator[Any]:
        model = self._reader.split.model
        with self._active(model):
            yield model

    def prefilled(self, knowledge_indices: Iterable[int]) -> list[CachedSequence]:
        return self._reader.prefilled(knowledge_indices)

    def update(self) -> None:
        """Frozen: no update."""

    def state(self) -> dict[str, Tensor]:
        return {}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        if tensors:
            raise ArtifactError(
                f"the checkpoint holds {len(tensors)} weights of a moving teacher, but this one is frozen"
            )

    @torch.no_grad()
    def hidden(self, rollouts: Sequence[Rollout]) -> Tensor:
        with self._active(self._reader.split.model):
            return self._reader.hidden(rollouts)

    @torch.no_grad()
    def logits(self, hidden: Tensor) -> Tensor:
        return self._reader.split.logits(hidden)


class FrozenCopy(BaseTeacher):
    """For full fine-tuning: a copy of the student, made before its first step.

    Args:
        student: the model to copy.
        dtype: of the copy.
        prefixes: from `find_prefixes`.
        config: prefix layout and cache budgets.
        max_length: maximum sequence length, tokens; None means the model's context length.
    """

    def __init__(
        self, student: Any, dtype: torch.dtype, prefixes: Prefixes, config: DistillConfig, max_length: int | None = None
    ) -> None:
        model = copy.deepcopy(student).to(dtype).requires_grad_(False).eval()
        super().__init__(model, prefixes, config, max_length)


class FrozenAdapter(BaseTeacher):
    """For LoRA: the shared base model with a frozen copy of the round-start adapter.

    From the second round on that adapter is not zero, so the base model alone would be the wrong teacher. Arguments as
    for `FrozenCopy`.
    """

    name = "teacher"

    def __init__(self, student: Any, prefixes: Prefixes, config: DistillConfig, max_length: int | None = None) -> None:
        with torch.random.fork_rng():  # peft initialises weights at random before the copy overwrites them
            copy_adapter(student, self.name)
        super().__init__(student, prefixes, config, max_length)
        self._adapted_head = any("lora_" in name for name, _ in self._reader.split.head.named_parameters())

    @contextmanager
    def _active(self, model: Any) -> Iterator[None]:
        """Activates the teacher's adapter in eval mode; restores the student's afterwards."""
        with evaluating(model):
            use_adapter(model, self.name)
            try:
                yield
            finally:
                use_adapter(model, ADAPTER)

    @torch.no_grad()
    def logits(self, hidden: Tensor) -> Tensor:
        """Switching adapters takes milliseconds, so it is done only where the output projection is adapted."""
        model = self._reader.split.model
        with self._active(model) if self._adapted_head else nullcontext():
            return super().logits(hidden)
