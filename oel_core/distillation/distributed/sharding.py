"""FSDP2: master weights, gradients and optimiser state sharded, for models whose optimiser state fits no single GPU.

Each decoder layer is a unit of `torch.distributed.fsdp.fully_shard`, the rest of the model one more. A step
all-gathers the weights once, in the compute dtype, and keeps them unsharded, so rollouts and forwards of different
lengths need no communication. Gradients are reduce-scattered after each micro-batch, so all ranks must run equally many
of them: the counts are all-reduced before the first, and ranks with fewer add micro-batches of weight 0.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from oel_core.compat.transformers import layer_class_names
from oel_core.config.run import DistillConfig
from oel_core.distillation.distributed.ranks import DataParallel
from oel_core.distillation.forward.student import Student
from oel_core.distillation.training.rollouts import Rollout
from oel_core.models.adapters import is_lora


def shard(model: Any, *, mixed: bool) -> None:
    """Shards a model's weights in place.

    Args:
        model: a transformers causal language model; of one with an adapter the frozen weights are sharded too.
        mixed: float32 weights, bfloat16 compute; gradients are accumulated in float32 either way.
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
        unit.set_force_sum_reduction_for_comms(True)  # gloo supports sum only


def _units(model: nn.Module) -> list[FSDPModule]:
    return [module for module in model.modules() if isinstance(module, FSDPModule)]


class ShardedStudent(Student):
    """Reduce-scatters gradients after a micro-batch's own backward, not after each chunk of its logits."""

    def hidden(self, rollouts: Sequence[Rollout]) -> Tensor:
        model: FSDPModule = self.split.model
        model.set_requires_gradient_sync(False)
        hidden = super().hidden(rollouts)
        if hidden.requires_grad:
            hidden.register_hook(lambda _gradient: model.set_requires_gradient_sync(True))
        return hidden


class FullySharded(DataParallel):
    """FSDP2: weights, gradients and optimiser state sharded among ranks.

    Args:
        device, served: as for `DataParallel`.
        mixed: float32 weights, bfloat16 compute.
    """

    def __init__(self, device: torch.device, *, served: bool = False, mixed: bool) -> None:
        super().__init__(device, served=served)
        self._mixed = mixed

    def make_student(self, model: Any, config: DistillConfig, max_length: int | None) -> Student:
        student = ShardedStudent(model, config, max_length)
        shard(model, mixed=self._mixed)
        return student

    def begin_step(self, model: nn.Module) -> None:
        """All-gathers the weights."""
        for unit in _units(model):
            unit.unshard()

    def _missing_batches(self, batches: int) -> int:
        every = self._all_reduced([batches if index == self.rank else 0 for index in range(self.world_size)])
        return max(every) - batches

    def end_step(self, model: nn.Module) -> None:
        """Reshards the weights for gradient clipping, optimizer step and checkpoint; gradients are reduced already."""
        for unit in _units(model):
            unit.reshard()

    def model_weights(self, model: nn.Module) -> dict[str, Tensor] | None:
        trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
        weights = model.state_dict()
        kept = {name: weight for name, weight in weights.items() if name in trained} if is_lora(model) else weights
        return self.full_tensors(kept)

    def full_tensors(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: self._full_tensor(tensor) for name, tensor in tensors.items()}

    def _full_tensor(self, tensor: Tensor) -> Tensor:
        found = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        return found.detach().cpu() if self.rank == 0 else torch.empty(0)


def shard_like(whole: Tensor, like: Tensor) -> Tensor:
    """Shards a full tensor like another of the same shape; unchanged where that one is not sharded."""
    if not isinstance(like, DTensor) or whole.shape != like.shape:
        return whole
    return distribute_tensor(whole.to(like.device), like.device_mesh, like.placements)
