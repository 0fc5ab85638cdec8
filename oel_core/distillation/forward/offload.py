"""Keeps what a forward saves for its backward in host memory, without the weights, which are on the device anyway."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import save_on_cpu, saved_tensors_hooks


def saved_in_host_memory(model: nn.Module, device: torch.device) -> saved_tensors_hooks:
    """A context for a forward. The backward copies each tensor back as it needs it; gradients are the same bits.

    Args:
        model: its weights stay where they are, gathered ones of a sharded model too.
        device: the model's; on a CPU nothing moves.
    """
    weights = {weight.untyped_storage().data_ptr() for weight in (*model.parameters(), *model.buffers())}
    torchs = save_on_cpu(pin_memory=device.type == "cuda")

    def pack(tensor: Tensor) -> Any:
        return tensor if tensor.untyped_storage().data_ptr() in weights else torchs.pack_hook(tensor)

    def unpack(packed: Any) -> Tensor:
        found: Tensor = packed if isinstance(packed, Tensor) else torchs.unpack_hook(packed)
        return found

    return saved_tensors_hooks(pack, unpack)
