"""Interpolates trained weights towards the base model's, which gives back part of what training cost elsewhere.

Source: WiSE-FT, arXiv 2109.01903, there for classifiers that were fine-tuned once. Here the end point is the base
model of the run (`model.path`) in every round, so that the distance from it does not grow with the rounds.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from oel_core.config.run import ModelConfig
from oel_core.errors import DistillationError
from oel_core.models.adapters import ADAPTER, is_lora
from oel_core.models.loading import load_model
from oel_core.models.saving import current_weights


def interpolate(
    student: Any, weights: Mapping[str, Tensor] | None, base: ModelConfig, base_share: float
) -> Mapping[str, Tensor] | None:
    """(1 - s) · student + s · base: in place where `weights` is None, else of `weights`, which are returned.

    Of a LoRA student the base is the model under the adapter, so its second factor is scaled, which is exact.

    Args:
        student: the trained model.
        weights: a sharded model's gathered weights; tensors of other ranks than 0 are empty and stay so.
        base: `path` is the base model of a full fine-tuning.
        base_share: s, between 0 and 1.

    Raises:
        DistillationError: the base model has other weights than the student.
        ArtifactError, PolicyError: the base model cannot be loaded.
    """
    with torch.no_grad():
        if is_lora(student):
            for name, parameter in student.named_parameters() if weights is None else weights.items():
                if f".lora_B.{ADAPTER}." in name or name.endswith(f".lora_embedding_B.{ADAPTER}"):
                    parameter.mul_(1 - base_share)
            return weights
        found = current_weights(student) if weights is None else weights
        own = current_weights(load_model(base.path, base)[0])
        for name, tensor in found.items():
            if tensor.numel() and (name not in own or own[name].shape != tensor.shape):
                raise DistillationError(
                    f"distill.retention.base_share: the base model {base.path} has no weight {name} of shape "
                    f"{tuple(tensor.shape)}: the round starts from a model of another architecture. Set it to 0"
                )
            if tensor.numel():
                tensor.lerp_(own[name].to(tensor), base_share)
        return weights
