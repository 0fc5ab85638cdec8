"""Interpolates trained weights towards an earlier model's, which gives back part of what training cost elsewhere.

Source: WiSE-FT, arXiv 2109.01903, there for classifiers that were fine-tuned once. Here the end point is the base
model of the run (`model.path`) in every round, so that the distance from it does not grow with the rounds; or the model
of the round's start, which makes the results of rounds an exponential moving average.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from oel_core.config.run import ModelConfig
from oel_core.errors import DistillationError
from oel_core.models.adapters import ADAPTER, is_lora, merge_lora
from oel_core.models.checkpoints import ADAPTER_WEIGHTS, is_adapter, resolve_model
from oel_core.models.loading import load_model
from oel_core.models.saving import current_weights


def interpolate(
    student: Any, weights: Mapping[str, Tensor] | None, config: ModelConfig, end: str, share: float
) -> Mapping[str, Tensor] | None:
    """(1 - s) · student + s · end point: in place where `weights` is None, else of `weights`, which are returned.

    Of a LoRA student and an adapter as the end point, each factor is interpolated. Where the end point is the model
    under the adapter, the second factor is scaled, which is exact.

    Args:
        student: the trained model.
        weights: a sharded model's gathered weights; tensors of other ranks than 0 are empty and stay so.
        config: how the end point of a whole model is loaded.
        end: the end point (a folder, an embedded name, a hub id).
        share: s, between 0 and 1.

    Raises:
        DistillationError: the end point has other weights than the student.
        ArtifactError, PolicyError: the end point cannot be loaded.
    """
    with torch.no_grad():
        if is_lora(student):
            _interpolate_adapter(dict(student.named_parameters()) if weights is None else weights, end, share)
            return weights
        found = current_weights(student) if weights is None else weights
        _lerp(found, current_weights(merge_lora(load_model(end, config)[0])), end, share)
        return weights


def _interpolate_adapter(parameters: Mapping[str, Tensor], end: str, share: float) -> None:
    """Interpolates an adapter in place; `parameters` by the names of the model's."""
    place = resolve_model(end)
    if isinstance(place, Path) and is_adapter(place):
        from safetensors.torch import load_file

        factors = {_file_name(name): tensor for name, tensor in parameters.items() if f".{ADAPTER}" in name}
        _lerp(factors, load_file(place / ADAPTER_WEIGHTS), end, share)
        return
    for name, parameter in parameters.items():
        if f".lora_B.{ADAPTER}." in name or name.endswith(f".lora_embedding_B.{ADAPTER}"):
            parameter.mul_(1 - share)


def _file_name(parameter: str) -> str:
    """The name of an adapter's parameter in its file."""
    return parameter.replace(f".{ADAPTER}.", ".").removesuffix(f".{ADAPTER}")


def _lerp(weights: Mapping[str, Tensor], end: Mapping[str, Tensor], name: str, share: float) -> None:
    """Interpolates `weights` in place towards those of the model `name`; empty tensors stay empty."""
    for key, tensor in weights.items():
        if tensor.numel() and (key not in end or end[key].shape != tensor.shape):
            raise DistillationError(
                f"distill.retention: the model {name} has no weight {key} of shape {tuple(tensor.shape)}: the round "
                "starts from a model of another architecture. Set base_share to 0"
            )
        if tensor.numel():
            tensor.lerp_(end[key].to(tensor), share)
