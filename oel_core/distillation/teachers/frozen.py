"""The frozen round-start teacher: hidden states at every response position, and logits from them, a few at a time.

That is the seam between teacher and objective. Hidden states are narrow, so a micro-batch's worth is kept; logits are
made for one chunk of tokens when the student's are, whatever part of the vocabulary an objective wants to see.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor

from oel_core.config.run import DistillConfig
from oel_core.distillation.forward.layouts import TEACHER_LAYOUTS, choose_layout
from oel_core.distillation.forward.scoring import Behind, Text, packed_hidden, padded_hidden
from oel_core.distillation.forward.split_model import SplitModel
from oel_core.distillation.teachers.shared_prefix import PrefixCache, Prefixes, PrefixStore, compute_prefix
from oel_core.distillation.training.rollouts import Rollout
from oel_core.errors import ArtifactError
from oel_core.models.loading import ADAPTER, copy_adapter, use_adapter
from oel_core.policies.hf.decoding import evaluating

_PADDED_READS = 4
"""Without gradient this many times a micro-batch's tokens are read at once where prefixes are repeated per row."""


class Teacher(Protocol):
    """Who the student is compared with."""

    @property
    def vocabulary(self) -> int:
        """V: tokens that it knows."""
        ...

    def hidden(self, rollouts: Sequence[Rollout]) -> Tensor:
        """Hidden states after the teacher's own prompts: (N, H), response tokens in the order of the rollouts."""
        ...

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits of some of them: (n, H) to (n, V), without gradient."""
        ...

    def answering(self) -> AbstractContextManager[Any]:
        """The model as the teacher has it, to sample from."""
        ...

    def follow(self) -> None:
        """The student's weights have changed."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold of it besides the student; empty where nothing changes."""
        ...

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes over what `state` gave. ArtifactError where the names are not the teacher's."""
        ...


class PrefixReader:
    """Reads taught prompts through the shared prefixes of their knowledge files.

    Args:
        split: the frozen model.
        prefixes: from `find_prefixes`; a draw without one is read in full.
        config: `teacher_prefix`, the prefix budgets and `micro_batch_tokens` are looked at.
        longest: tokens of the longest sequence to come; None means the model's whole context.
    """

    def __init__(self, split: SplitModel, prefixes: Prefixes, config: DistillConfig, longest: int | None) -> None:
        self.split = split
        self.form = choose_layout(split, config.teacher_prefix, TEACHER_LAYOUTS, longest)
        known = {} if self.form == "full" else {draw: ids for draw, ids in prefixes.items() if ids}
        self.store = PrefixStore(known, config.prefix_cache_gb * 1e9, config.prefix_spill_gb * 1e9)
        self._room = config.micro_batch_tokens * _PADDED_READS

    @torch.no_grad()
    def hidden(self, rollouts: Sequence[Rollout]) -> Tensor:
        """As `Teacher.hidden`."""
        found: list[Tensor] = [torch.empty(0)] * len(rollouts)
        for members, hidden in self._pieces(rollouts):
            lengths = [len(rollouts[index].response) for index in members]
            for index, rows in zip(members, hidden.split(lengths), strict=True):
                found[index] = rows
        return torch.cat(found)

    def _pieces(self, rollouts: Sequence[Rollout]) -> Iterator[tuple[list[int], Tensor]]:
        """Positions of some rollouts, and their hidden states."""
        together: list[tuple[list[int], PrefixCache]] = []
        for draw, members in self._by_draw(rollouts).items():
            if draw is None:
                yield from self._rows(rollouts, members, None)
                continue
            cache = self.store.get(draw, self._compute)
            if self.form == "cached":
                yield from self._rows(rollouts, members, cache)
            elif cache.kept:
                together.append((members, cache))
            else:  # beyond the budget there is room for one at a time
                yield self._shared(rollouts, [(members, cache)])
        if together:
            yield self._shared(rollouts, together)

    def _compute(self, ids: Sequence[int]) -> PrefixCache:
        return compute_prefix(self.split, ids)

    def _by_draw(self, rollouts: Sequence[Rollout]) -> dict[int | None, list[int]]:
        """Positions of the rollouts by their knowledge file; None where no known prefix begins the prompt."""
        found: dict[int | None, list[int]] = {}
        for index, rollout in enumerate(rollouts):
            prefix = self.store.prefixes.get(rollout.sample.knowledge_index)
            fits = prefix is not None and list(rollout.sample.teacher_prompt[: len(prefix)]) == list(prefix)
            found.setdefault(rollout.sample.knowledge_index if fits else None, []).append(index)
        return found

    def _shared(
        self, rollouts: Sequence[Rollout], groups: Sequence[tuple[list[int], PrefixCache]]
    ) -> tuple[list[int], Tensor]:
        behind = [
            Behind([_text(rollouts[index], cache.length) for index in members], cache, cache.length)
            for members, cache in groups
        ]
        return [index for members, _ in groups for index in members], packed_hidden(self.split, behind)

    def _rows(
        self, rollouts: Sequence[Rollout], members: Sequence[int], cache: PrefixCache | None
    ) -> Iterator[tuple[list[int], Tensor]]:
        """Rows of similar length together, as many as there is room for, each with the prefix of its own."""
        seam = cache.length if cache is not None else 0
        part: list[int] = []
        for index in sorted(members, key=lambda index: rollouts[index].taught_length):
            if part and (len(part) + 1) * rollouts[index].taught_length > self._room:
                yield part, self._rectangle(rollouts, part, seam, cache)
                part = []
            part.append(index)
        yield part, self._rectangle(rollouts, part, seam, cache)

    def _rectangle(
        self, rollouts: Sequence[Rollout], members: Sequence[int], seam: int, cache: PrefixCache | None
    ) -> Tensor:
        texts = [_text(rollouts[index], seam) for index in members]
        return padded_hidden(self.split, texts, cache and cache.for_rows(len(texts)))


def _text(rollout: Rollout, seam: int) -> Text:
    return Text(rollout.sample.teacher_prompt[seam:], rollout.response)


class Reading:
    """What teachers that read knowledge do, inside the context that makes the model theirs. They never change here."""

    def __init__(self, model: Any, prefixes: Prefixes, config: DistillConfig, longest: int | None) -> None:
        with self._active(model):
            self._reader = PrefixReader(SplitModel(model), prefixes, config, longest)

    @contextmanager
    def _active(self, model: Any) -> Iterator[None]:
        with evaluating(model):
            yield

    @property
    def form(self) -> str:
        """How it reads knowledge: `shared`, `cached` or `full`."""
        return self._reader.form

    @property
    def vocabulary(self) -> int:
        return self._reader.split.vocabulary

    def forget(self) -> None:
        """Drops the shared prefixes; they are computed again when they are needed."""
        self._reader.store.forget()

    @contextmanager
    def answering(self) -> Iterator[Any]:
        model = self._reader.split.model
        with self._active(model):
            yield model

    def follow(self) -> None:
        """Stays as it is."""

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


class FrozenCopy(Reading):
    """For full fine-tuning: a copy of the student, made before its first step.

    Args:
        student: the model to copy.
        dtype: of the copy.
        prefixes: from `find_prefixes`.
        config: how prefixes are read and kept.
        longest: tokens of the longest sequence to come; None means the model's whole context.
    """

    def __init__(
        self, student: Any, dtype: torch.dtype, prefixes: Prefixes, config: DistillConfig, longest: int | None = None
    ) -> None:
        model = copy.deepcopy(student).to(dtype).requires_grad_(False).eval()
        super().__init__(model, prefixes, config, longest)


class FrozenAdapter(Reading):
    """For LoRA: the shared base under a frozen copy of the adapter as it was at the round's start.

    From the second round on that adapter is not zero, so the bare base would be the wrong teacher. Arguments as for
    `FrozenCopy`.
    """

    name = "teacher"

    def __init__(self, student: Any, prefixes: Prefixes, config: DistillConfig, longest: int | None = None) -> None:
        with torch.random.fork_rng():  # peft draws initial weights before the copy overwrites them
            copy_adapter(student, self.name)
        super().__init__(student, prefixes, config, longest)
        self._adapted_head = any("lora_" in name for name, _ in self._reader.split.head.named_parameters())

    @contextmanager
    def _active(self, model: Any) -> Iterator[None]:
        """The teacher's adapter without dropout; afterwards the student's adapter as it was."""
        with evaluating(model):
            use_adapter(model, self.name)
            try:
                yield
            finally:
                use_adapter(model, ADAPTER)

    @torch.no_grad()
    def logits(self, hidden: Tensor) -> Tensor:
        """Switching adapters takes milliseconds, so only a head that has one of its own is switched."""
        model = self._reader.split.model
        with self._active(model) if self._adapted_head else nullcontext():
            return super().logits(hidden)
