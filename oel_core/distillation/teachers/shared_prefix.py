"""What all teacher prompts of one knowledge file begin with, computed once a round and kept.

The teacher is frozen for a round, so the keys and values of that prefix never change. The prefix is found on token ids:
where a tokenizer merges across the end of the knowledge, or a template puts something varying before it, the seam is
where the ids of the round's prompts really part.
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
"""Token ids of the common prefix of each knowledge file, by its draw."""


def find_prefixes(steps: Iterable[Step]) -> dict[int, tuple[int, ...]]:
    """The longest common token prefix of all taught prompts that drew the same knowledge file.

    Every prompt keeps at least one token of its own, because a forward needs one. May be empty.
    """
    found: dict[int, Any] = {}
    for sample in (sample for step in steps for sample in step.samples):
        prompt = as_ids(sample.teacher_prompt)[:-1]
        known = found.get(sample.knowledge_index)
        found[sample.knowledge_index] = prompt if known is None else known[: common_length(known, prompt)]
    return {draw: tuple(ids.tolist()) for draw, ids in found.items()}


@dataclass(frozen=True)
class PrefixCache:
    """Keys and values of one prefix. Nobody writes to it."""

    cache: Any
    """A `DynamicCache` whose layers all hold keys and values."""
    length: int
    """Tokens."""
    device: torch.device
    """Where the model is; the tensors may lie in main memory."""
    kept: bool = False
    """It is there at the next use too."""

    @property
    def tensors(self) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of each layer, both (1, Hk, P, D)."""
        return [(layer.keys, layer.values) for layer in self.cache.layers]

    @property
    def bytes(self) -> int:
        return sum(part.nbytes for pair in self.tensors for part in pair)

    def layer(self, index: int) -> tuple[Tensor, Tensor]:
        """Keys and values on the model's device: one layer at a time comes over from main memory."""
        keys, values = self.tensors[index]
        return keys.to(self.device, non_blocking=True), values.to(self.device, non_blocking=True)

    def for_rows(self, rows: int) -> DynamicCache:
        """A cache to extend: the prefix repeated for each row."""
        fresh = copy.copy(self.cache)
        fresh.layers = [copy.copy(layer) for layer in self.cache.layers]
        for index, layer in enumerate(fresh.layers):
            keys, values = self.layer(index)
            layer.keys, layer.values = keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1)
        return fresh


class PrefixStore:
    """The prefixes of a round, computed at first use.

    A step uses every file, round after round in the same order, and dropping the least recently used one would then
    drop exactly the next. So nothing is ever dropped: files are kept while there is room, on the device, then in main
    memory, and those beyond that are computed at each use.

    Args:
        prefixes: token ids by draw.
        device_bytes: room on the model's device.
        host_bytes: room in main memory, if the device is another.
    """

    def __init__(self, prefixes: Prefixes, device_bytes: float, host_bytes: float) -> None:
        self.prefixes = prefixes
        self._limits = {"device": device_bytes, "host": host_bytes}
        self._kept: dict[int, PrefixCache] = {}
        self._used: dict[str, int] = {"device": 0, "host": 0}

    def length(self, draw: int) -> int:
        """Tokens of a prefix."""
        return len(self.prefixes.get(draw, ()))

    def get(self, draw: int, compute: Callable[[Sequence[int]], PrefixCache]) -> PrefixCache:
        """The prefix of a draw, from memory or computed."""
        if draw not in self._kept:
            cache = self._keep(draw, compute(self.prefixes[draw]))
            if not cache.kept:
                return cache
        return self._kept[draw]

    def _keep(self, draw: int, cache: PrefixCache) -> PrefixCache:
        places = ("device",) if cache.device.type == "cpu" else ("device", "host")
        for place in places:
            if self._used[place] + cache.bytes <= self._limits[place]:
                self._used[place] += cache.bytes
                stored = replace(cache if place == "device" else _on_host(cache), kept=True)
                self._kept[draw] = stored
                return stored
        logger.info("the prefix of knowledge file %d fits no budget: it is computed at each use", draw)
        return cache

    def forget(self) -> None:
        """Drops everything: the next use computes it again."""
        self._kept.clear()
        self._used = {"device": 0, "host": 0}


def _on_host(cache: PrefixCache) -> PrefixCache:
    for layer in cache.cache.layers:
        layer.keys, layer.values = layer.keys.cpu().pin_memory(), layer.values.cpu().pin_memory()
    return cache


@torch.no_grad()
def compute_prefix(split: SplitModel, ids: Sequence[int]) -> PrefixCache:
    """Reads a prefix with the model's own attention."""
    config = split.model.config
    cache = DynamicCache(config=config)
    split.hidden(torch.tensor([list(ids)], device=split.device), past_key_values=cache, use_cache=True)
    return PrefixCache(cache, len(ids), split.device)
