"""A causal language model split between decoder and output projection.

Logits take V values a token and would dominate a step's memory, so they are computed at response positions only, a
chunk at a time. Both halves run through the model's own forward, so adapters, autocast, wrappers, and scaled or capped
logits apply without code for any architecture.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPast

from oel_core.errors import DistillationError
from oel_core.models.adapters import plain_model


class SplitModel:
    """Hidden states from token ids, and logits from hidden states.

    Args:
        model: a transformers causal language model, with an adapter or without.

    Raises:
        DistillationError: the model has no separate decoder and output projection.
    """

    def __init__(self, model: Any) -> None:
        causal = plain_model(model)
        self.model = model
        self.head: nn.Module = causal.get_output_embeddings()
        self.decoder: nn.Module = causal.get_decoder()
        if self.head is None or self.decoder is None or self.decoder is causal:
            raise DistillationError(
                f"{type(causal).__name__} has no decoder with an output projection behind it: distillation needs a "
                "causal language model of that form"
            )

    @property
    def device(self) -> torch.device:
        return next(self.head.parameters()).device

    @property
    def vocabulary(self) -> int:
        """V: rows of the output projection."""
        return int(self.head.out_features)  # type: ignore[arg-type]

    def hidden(self, ids: Tensor, **inputs: Any) -> Tensor:
        """The decoder's output, the input of the output projection.

        Args:
            ids: token ids, shape (B, L), on the model's device.
            inputs: further arguments of the model's forward (`position_ids`, `past_key_values`, ...).

        Returns:
            Shape (B, L, H), differentiable.
        """
        found: list[Tensor] = []

        def capture(_module: nn.Module, _inputs: Any, output: Any) -> None:
            found.append(output[0])

        def project_nothing(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            return (inputs[0][:, :0], *inputs[1:])

        hooks = (
            self.decoder.register_forward_hook(capture),
            self.head.register_forward_pre_hook(project_nothing),
        )
        try:
            self.model(input_ids=ids, **{"use_cache": False, **inputs})
        finally:
            for hook in hooks:
                hook.remove()
        return found[0]

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states to logits, with the architecture's own scaling and caps.

        Args:
            hidden: shape (N, H).

        Returns:
            Shape (N, V), differentiable.
        """
        placeholder = torch.zeros(1, len(hidden), dtype=torch.long, device=hidden.device)

        def replacement(*_args: Any, **_kwargs: Any) -> BaseModelOutputWithPast:
            return _DecoderOutput(last_hidden_state=hidden[None])  # type: ignore[arg-type]

        with _replaced_forward(self.decoder, replacement):
            logits: Tensor = self.model(input_ids=placeholder, use_cache=False).logits
        return logits[0]


class _DecoderOutput(BaseModelOutputWithPast):
    """A decoder's output; every other attribute that an architecture reads is None."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


@contextmanager
def _replaced_forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    previous = module.__dict__.get("forward")  # a wrapper may have put its own there
    module.forward = forward
    try:
        yield
    finally:
        if previous is None:
            del module.forward
        else:
            module.forward = previous
