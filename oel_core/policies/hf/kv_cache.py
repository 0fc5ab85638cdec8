"""A KV cache with preallocated capacity: a new token is written in place instead of copying all earlier ones."""

from typing import Any

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

GROWTH = 1.25
"""Growth factor of a full buffer, for amortised linear copying."""


class PreallocatedLayer(DynamicLayer):
    """One layer's keys and values, (rows, heads, length, width) each, at the start of a larger buffer.

    Args:
        longest: maximum length, tokens; limits the buffer.
    """

    def __init__(self, longest: int) -> None:
        super().__init__()
        self._longest = longest
        self._rooms: tuple[Tensor, Tensor] | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Appends new tokens and returns all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        old = self.get_seq_length()
        length = old + key_states.shape[-2]
        if self._rooms is None or length > self._rooms[0].shape[-2]:
            self._rooms = (self._room(key_states, self.keys, length), self._room(value_states, self.values, length))
        for room, new in zip(self._rooms, (key_states, value_states), strict=True):
            room[..., old:length, :] = new
        self.keys, self.values = (room[..., :length, :] for room in self._rooms)
        return self.keys, self.values

    def _room(self, like: Tensor, held: Tensor | None, length: int) -> Tensor:
        """A buffer for at least `length` tokens, with the existing ones copied to its start."""
        size = max(length, min(self._longest, int(length * GROWTH)))
        room = like.new_empty((*like.shape[:-2], size, like.shape[-1]))
        if held is not None and held.numel():
            room[..., : held.shape[-2], :] = held
        return room

    def batch_repeat_interleave(self, repeats: int) -> None:
        """See `DynamicLayer`; the next token allocates a new buffer."""
        super().batch_repeat_interleave(repeats)
        self._rooms = None

    def batch_select_indices(self, indices: Tensor) -> None:
        """See `DynamicLayer`; the next token allocates a new buffer."""
        super().batch_select_indices(indices)
        self._rooms = None


def preallocated_cache(config: Any, longest: int) -> DynamicCache:
    """An empty cache for a model; layers with partial caches (sliding windows, recurrent states) stay transformers'
    own."""
    cache = DynamicCache(config=config)
    cache.layers = [PreallocatedLayer(longest) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache
