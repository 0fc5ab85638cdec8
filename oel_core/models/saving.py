"""Writing checkpoints, atomically."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from oel_core.compat.transformers import no_progress_bars
from oel_core.models.adapters import adapter_weights, is_lora, save_adapter, save_adapter_config
from oel_core.models.checkpoints import ADAPTER_WEIGHTS, WEIGHTS
from oel_core.runs.files import filling


@no_progress_bars()
def save_model(
    model: Any, tokenizer: PreTrainedTokenizerBase, folder: Path, *, weights: Mapping[str, Tensor] | None = None
) -> Path:
    """Atomically writes a checkpoint that `load_model` reads; adapter-only for a model with an adapter.

    An existing checkpoint is replaced. `weights` are written instead of the model's own where those are sharded.

    Raises:
        ArtifactError: the disk is full; an existing checkpoint is kept.
    """
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    with filling(partial):
        if is_lora(model):
            save_adapter(model, partial, weights)
        else:
            model.save_pretrained(partial, state_dict=weights)
        tokenizer.save_pretrained(str(partial))
    if folder.exists():
        shutil.rmtree(folder)
    partial.rename(folder)
    return folder


def current_weights(model: Any) -> dict[str, torch.Tensor]:
    """The weights that training changes: those of the active adapter, or all; tied weights once."""
    if is_lora(model):
        return adapter_weights(model)
    places: dict[int, str] = {}
    weights = model.state_dict()
    return {name: tensor for name, tensor in weights.items() if places.setdefault(tensor.data_ptr(), name) == name}


def write_weights(model: Any, weights: dict[str, torch.Tensor], folder: Path) -> None:
    """Atomically writes `current_weights` to `folder`, without a tokenizer.

    An adapter's folder is a complete checkpoint; a full model's contains `model.safetensors` only.
    """
    from safetensors.torch import save_file

    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    with filling(partial):
        save_file(on_cpu, partial / (ADAPTER_WEIGHTS if is_lora(model) else WEIGHTS))
        if is_lora(model):
            save_adapter_config(model, partial)
    partial.rename(folder)
