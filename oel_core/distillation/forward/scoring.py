"""Hidden states at the positions that predict a response token, for several layouts of the same sequences.

The last token of a response predicts no scored token, so it is not fed to the model. Shape legend: B sequences, N
response tokens of all of them in order, H hidden size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from oel_core.distillation.forward.packed_attention import Group, LayerCache, Layout, packed_attention
from oel_core.distillation.forward.prefix_tree import PackedRow, as_ids
from oel_core.distillation.forward.split_model import SplitModel
from oel_core.models.adapters import plain_model


@dataclass(frozen=True)
class Text:
    """Token ids of a prompt and its response."""

    prompt: Sequence[int]
    response: Sequence[int]

    @property
    def length(self) -> int:
        """Tokens fed to the model."""
        return len(self.prompt) + len(self.response) - 1


def padded_hidden(split: SplitModel, texts: Sequence[Text], cache: Any = None) -> Tensor:
    """Hidden states from a right-padded batch. In a causal model no token attends to padding, so no mask is needed.

    Args:
        split: the model.
        texts: B texts; with a KV cache, what follows its prefix.
        cache: KV cache of the prefix, repeated for B rows; extended in place.

    Returns:
        Shape (N, H).
    """
    width = max(text.length for text in texts)
    ids = torch.zeros(len(texts), width, dtype=torch.long)
    predicts = torch.zeros(len(texts), width, dtype=torch.bool)
    for row, text in enumerate(texts):
        ids[row, : text.length] = torch.from_numpy(as_ids(text.prompt, text.response[:-1]))
        predicts[row, len(text.prompt) - 1 : text.length] = True
    inputs = {} if cache is None else {"past_key_values": cache, "use_cache": True}
    return split.hidden(ids.to(split.device), **inputs)[predicts.to(split.device)]


@dataclass(frozen=True)
class PrefixGroup:
    """Texts that continue the same prefix."""

    texts: Sequence[Text]
    prefix: LayerCache | None = None
    length: int = 0
    """Tokens of the prefix."""


def packed_hidden(split: SplitModel, groups: Sequence[PrefixGroup]) -> Tensor:
    """Hidden states from one packed row, common prefixes computed once (see `prefix_tree`).

    Args:
        split: the model.
        groups: all with a prefix (then without gradient), or a single one without.

    Returns:
        Shape (N, H), in the order of the groups.
    """
    row, covers, predicts = PackedRow(), [], []
    for group in groups:
        first, start = len(row.spans), row.tokens
        places = row.add([as_ids(text.prompt, text.response[:-1]) for text in group.texts], group.length)
        predicts += [place[len(text.prompt) - 1 :] for place, text in zip(places, group.texts, strict=True)]
        if group.prefix is not None:
            covers.append(Group(first, len(row.spans), slice(start, row.tokens), group.prefix))
    max_length = max(group.length + text.length for group in groups for text in group.texts)
    ids, positions, wanted = (
        torch.from_numpy(np.concatenate(parts).astype(np.int64)).to(split.device)
        for parts in (row.ids, row.positions, predicts)
    )
    layout = Layout(row.spans, max_length, covers)
    with packed_attention(plain_model(split.model)):
        hidden = split.hidden(ids[None], position_ids=positions[None], layout=layout)
    return hidden[0].index_select(0, wanted)
