"""One forward pass that ends in logits at the response positions and nowhere else."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def pack(prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Prompts and responses in one right-padded rectangle.

    Right padding lies after everything that a causal model may look at, so no attention mask is needed.

    Args:
        prompts: B lists of token ids, none empty.
        responses: B lists of token ids.
        pad_id: fills up rows; any id will do.

    Returns:
        Token ids, shape (B, L), and a mask, shape (B, L), of the positions whose logits predict a response token.
        Read row by row, the mask's positions are the response tokens in order.
    """
    length = max(len(prompt) + len(response) for prompt, response in zip(prompts, responses, strict=True))
    ids = torch.full((len(prompts), length), pad_id, dtype=torch.long)
    predicts = torch.zeros(len(prompts), length, dtype=torch.bool)
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        end = len(prompt) + len(response)
        ids[row, : len(prompt)] = torch.tensor(prompt, dtype=torch.long)
        ids[row, len(prompt) : end] = torch.tensor(response, dtype=torch.long)
        predicts[row, len(prompt) - 1 : end - 1] = True
    return ids, predicts


@contextmanager
def _only(head: nn.Module, positions: Tensor) -> Iterator[None]:
    """Lets the output projection see the marked positions of its input only: (B, L, H) becomes (N, H)."""

    def select(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (inputs[0][positions], *inputs[1:])

    handle = head.register_forward_pre_hook(select)
    try:
        yield
    finally:
        handle.remove()


def response_logits(
    model: nn.Module,
    head: nn.Module,
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    *,
    pad_id: int,
) -> Tensor:
    """Logits that predict each response token, projected to the vocabulary at these positions only.

    Selecting inside the projection keeps the call on the model's own forward, so adapters, autocast, wrappers and
    architectures that post-process logits all stay in force.

    Args:
        model: a causal language model.
        head: its output projection (`get_output_embeddings()`).
        prompts: B lists of token ids.
        responses: B lists of token ids; N in all.

    Returns:
        Shape (N, V), response tokens of the first sample first.
    """
    device = next(head.parameters()).device
    ids, predicts = (part.to(device) for part in pack(prompts, responses, pad_id))
    with _only(head, predicts):
        logits: Tensor = model(input_ids=ids, use_cache=False).logits
    return logits
