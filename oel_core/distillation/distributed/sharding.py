"""FSDP2: master weights, gradients and optimiser divided among processes, for models whose optimiser fits no GPU.

Each layer is a unit of `torch.distributed.fsdp.fully_shard`, the rest of the model one more. A step gathers the
weights once, in the computing type, and keeps them: rollouts of different lengths and micro-batches then need nobody
else. Gradients are summed and divided again after each micro-batch, so all processes must do equally many of them:
they tell each other how many they have before the first, and whoever has fewer adds one with weight 0.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from oel_core.compat.transformers import layer_class_names
from oel_core.config.run import DistillConfig
from oel_core.distillation.distributed.ranks import Replicas
from oel_core.distillation.forward.student import Student
from oel_core.distillation.training.rollouts import Rollout


def shard(model: Any, *, mixed: bool) -> None:
    """Divides a model's weights in place.

    Args:
        model: a transformers causal language model without an adapter.
        mixed: float32 weights, computed with in bfloat16; gradients are added up in float32 either way.
    """
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if mixed else None, reduce_dtype=torch.float32 if mixed else None
    )
    layers = layer_class_names(model)
    for module in [module for module in model.modules() if type(module).__name__ in layers]:
        fully_shard(module, mp_policy=policy)
    fully_shard(model, mp_policy=policy)
    for unit in _units(model):
        unit.set_reshard_after_forward(False, recurse=False)
        unit.set_reshard_after_backward(False, recurse=False)
        unit.set_gradient_divide_factor(1.0)
        unit.set_force_sum_reduction_for_comms(True)  # gloo can do nothing else


def _units(model: nn.Module) -> list[FSDPModule]:
    return [module for module in model.modules() if isinstance(module, FSDPModule)]


class ShardedStudent(Student):
    """Gradients travel after a micro-batch's own backward, not after each chunk of its logits."""

    def hidden(self, rollouts: Sequence[Rollout]) -> Tensor:
        model: FSDPModule = self.split.model
        model.set_requires_gradient_sync(False)
        hidden = super().hidden(rollouts)
        if hidden.requires_grad:
            hidden.register_hook(lambda _gradient: model.set_requires_gradient_sync(True))
        return hidden


class Shards(Replicas):
    """Several processes that divide weights, gradients and optimiser state.

    Args:
        device: where messages are made up; a GPU for NCCL.
        mixed: float32 weights, computed with in bfloat16.
    """

    def __init__(self, device: torch.device, *, mixed: bool) -> None:
        super().__init__(device)
        self._mixed = mixed

    def make_student(self, model: Any, config: DistillConfig, longest: int | None) -> Student:
        student = ShardedStudent(model, config, longest)
        shard(model, mixed=self._mixed)
        return student

    def begin_step(self, model: nn.Module) -> None:
        """Gathers the weights."""
        for unit in _units(model):
            unit.unshard()

    def _fewer(self, batches: int) -> int:
        every = self._joined([batches if index == self.index else 0 for index in range(self.count)])
        return max(every) - batches

    def end_step(self, model: nn.Module) -> None:
        """Every backward has summed. What clips, steps and saves must find the divided weights, not the gathered."""
        for unit in _units(model):
            unit.reshard()

    def model_weights(self, model: nn.Module) -> dict[str, Tensor] | None:
        return self.whole(model.state_dict())

    def whole(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: self._whole(tensor) for name, tensor in tensors.items()}

    def _whole(self, tensor: Tensor) -> Tensor:
        found = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        return found.detach().cpu() if self.index == 0 else torch.empty(0)


def divided_like(whole: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, divided as another of its shape is; as it is where that one is not divided."""
    if not isinstance(like, DTensor) or whole.shape != like.shape:
        return whole
    return distribute_tensor(whole.to(like.device), like.device_mesh, like.placements)
