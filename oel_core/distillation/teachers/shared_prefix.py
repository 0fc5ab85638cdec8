"""Prefix caching for teacher prompts: the KV cache of each knowledge file's common prefix.

A frozen teacher's keys and values stay valid for the round. The prefix is the longest common prefix of the round's
token ids, so it is right also where a tokenizer merges across the end of the knowledge, or a template puts varying text
before it.
"""

import copy
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from oel_core.distillation.data.dataset import Step
from oel_core.distillation.forward.prefix_tree import as_ids, common_length
from oel_core.distillation.forward.split_model import SplitModel

logger = logging.getLogger(__name__)

Prefixes = Mapping[int, Sequence[int]]
"""Token ids of the common prefix of each knowledge file, by `knowledge_index`."""


def find_prefixes(steps: Iterable[Step]) -> dict[int, tuple[int, ...]]:
    """The longest common token prefix of all teacher prompts with the same knowledge file; may be empty.

    At least one token of every prompt is excluded, because a forward needs one.
    """
    found: dict[int, Any] = {}
    for sample in (sample for step in steps for sample in step.samples):
        prompt = as_ids(sample.teacher_prompt)[:-1]
        known = found.get(sample.knowledge_index)
        found[sample.knowledge_index] = prompt if known is None else known[: common_length(known, prompt)]
    return {knowledge_index: tuple(ids.tolist()) for knowledge_index, ids in found.items()}


@dataclass(frozen=True)
class PrefixCache:
    """The KV cache of one prefix; read-only."""

    cache: Any
    """A `DynamicCache` whose layers all hold keys and values."""
    length: int
    """Tokens."""
    device: torch.device
    """The model's device; the tensors may be in host memory."""
    kept: bool = False
    """Stored for the next use."""

    @property
    def tensors(self) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of each layer, both (1, Hk, P, D)."""
        return [(layer.keys, layer.values) for layer in self.cache.layers]

    @property
    def bytes(self) -> int:
        return sum(part.nbytes for pair in self.tensors for part in pair)

    def layer(self, index: int) -> tuple[Tensor, Tensor]:
        """Keys and values on the model's device; copied from host memory one layer at a time."""
        keys, values = self.tensors[index]
        return keys.to(self.device, non_blocking=True), values.to(self.device, non_blocking=True)

    def for_rows(self, rows: int) -> DynamicCache:
        """A cache to extend in place: the prefix repeated for each row."""
        fresh = copy.copy(self.cache)
        fresh.layers = [copy.copy(layer) for layer in self.cache.layers]
        for index, layer in enumerate(fresh.layers):
            keys, values = self.layer(index)
            layer.keys, layer.values = keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1)
        return fresh


class PrefixStore:
    """The KV caches of a round's prefixes, computed at first use.

    Every step uses all files in the same order, where LRU eviction would always evict the file that is needed next. So
    nothing is evicted: files are stored on the device, then in host memory, while the budgets last; the others are
    recomputed at each use.

    Args:
        prefixes: token ids by `knowledge_index`.
        device_bytes: budget on the model's device.
        host_bytes: budget in host memory, unused where the device is the CPU.
    """

    def __init__(self, prefixes: Prefixes, device_bytes: float, host_bytes: float) -> None:
        self.prefixes = prefixes
        self._limits = {"device": device_bytes, "host": host_bytes}
        self._kept: dict[int, PrefixCache] = {}
        self._used: dict[str, int] = {"device": 0, "host": 0}

    def length(self, knowledge_index: int) -> int:
        """Length of a prefix, tokens."""
        return len(self.prefixes.get(knowledge_index, ()))

    def get(self, knowledge_index: int, compute: Callable[[Sequence[int]], PrefixCache]) -> PrefixCache:
        """The stored prefix of a knowledge file, or a newly computed one."""
        if knowledge_index not in self._kept:
            cache = self._keep(knowledge_index, compute(self.prefixes[knowledge_index]))
            if not cache.kept:
                return cache
        return self._kept[knowledge_index]

    def _keep(self, knowledge_index: int, cache: PrefixCache) -> PrefixCache:
        places = ("device",) if cache.device.type == "cpu" else ("device", "host")
        for place in places:
            if self._used[place] + cache.bytes <= self._limits[place]:
                self._used[place] += cache.bytes
                stored = replace(cache if place == "device" else _on_host(cache), kept=True)
                self._kept[knowledge_index] = stored
                return stored
        logger.info("the prefix of knowledge file %d fits no budget: it is computed at each use", knowledge_index)
        return cache

    def clear(self) -> None:
        """Drops all caches; the next use recomputes them."""
        self._kept.clear()
        self._used = {"device": 0, "host": 0}


def _on_host(cache: PrefixCache) -> PrefixCache:
    for layer in cache.cache.layers:
        layer.keys, layer.values = layer.keys.cpu().pin_memory(), layer.values.cpu().pin_memory()
    return cache


@torch.no_grad()
def compute_prefix(split: SplitModel, ids: Sequence[int]) -> PrefixCache:
    """Prefills a prefix with the model's own attention."""
    config = split.model.config
    cache = DynamicCache(config=config)
    split.hidden(torch.tensor([list(ids)], device=split.device), past_key_values=cache, use_cache=True)
    return PrefixCache(cache, len(ids), split.device)
