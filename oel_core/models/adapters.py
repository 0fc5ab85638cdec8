"""Low-rank adapters of a model. The only module that imports peft."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from oel_core.config.run import LoraConfig
from oel_core.errors import ArtifactError, ConfigError
from oel_core.models.checkpoints import ADAPTER_CONFIG, canonical_adapter_config, embedded, read_json
from oel_core.models.tying import find_tied_adapter

ADAPTER = "default"
"""Name of the adapter that a run trains and saves."""


def is_lora(model: Any) -> bool:
    """Whether the model has an adapter."""
    from peft import PeftModel

    return isinstance(model, PeftModel)


def plain_model(model: Any) -> PreTrainedModel:
    """The underlying transformers model, with its adapter layers if it has an adapter."""
    plain: PreTrainedModel = model.get_base_model() if is_lora(model) else model
    return plain


def load_adapter(base: PreTrainedModel, folder: Path) -> Any:
    """The base model with the trainable adapter of a folder.

    Raises:
        ArtifactError: the adapter names code to import, does not fit the base, or changes weights that modules share.
    """
    from peft import PeftModel
    from safetensors import SafetensorError

    if read_json(folder / ADAPTER_CONFIG).get("megatron_config"):
        raise ArtifactError(f"{folder / ADAPTER_CONFIG}: megatron_config is set, which names code to import: remove it")
    try:
        model = PeftModel.from_pretrained(base, str(folder), adapter_name=ADAPTER, is_trainable=True)
    except (ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ArtifactError(f"the adapter in {folder} does not fit its base {base.name_or_path}: {error}") from error
    if (problem := find_tied_adapter(model.get_base_model())) is not None:
        raise ArtifactError(f"the adapter in {folder} cannot be used: {problem}")
    return model


def add_lora(model: PreTrainedModel, config: LoraConfig) -> Any:
    """The model with a new zero-initialised adapter; only the adapter's weights are trainable.

    Raises:
        ConfigError: the model lacks a named module, or shares that module's weights with another one.
    """
    from peft import LoraConfig as PeftLoraConfig
    from peft import get_peft_model

    modules = config.target_modules if isinstance(config.target_modules, str) else list(config.target_modules)
    wanted = PeftLoraConfig(
        r=config.r,
        lora_alpha=config.alpha,  # type: ignore[arg-type]
        lora_dropout=config.dropout,
        target_modules=modules,
        task_type="CAUSAL_LM",
    )
    try:
        adapted = get_peft_model(model, wanted, adapter_name=ADAPTER)
    except ValueError as error:
        raise ConfigError(f"model.lora does not fit this model: {error}") from error
    if (problem := find_tied_adapter(model)) is not None:
        raise ConfigError(f"model.lora.target_modules: {problem}")
    return adapted


def copy_adapter(model: Any, name: str) -> None:
    """Adds a frozen copy of the adapter under `name`, for a teacher."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    model.add_adapter(name, model.peft_config[ADAPTER])
    set_peft_model_state_dict(model, get_peft_model_state_dict(model, adapter_name=ADAPTER), adapter_name=name)
    use_adapter(model, ADAPTER)


def use_adapter(model: Any, name: str) -> None:
    """Activates an adapter. Only `ADAPTER` is trainable."""
    model.set_adapter(name)
    for key, parameter in model.named_parameters():
        if "lora_" in key:
            parameter.requires_grad_(f".{ADAPTER}." in key)


def merge_lora(model: Any) -> PreTrainedModel:
    """A plain model with the adapter merged; a model without one is returned unchanged."""
    merged: PreTrainedModel = model.merge_and_unload() if is_lora(model) else model
    return merged


def adapter_weights(model: Any) -> dict[str, torch.Tensor]:
    """Copies of the active adapter's weights, under the names of its file.

    They come from the parameters, since making the state dictionary of a sharded model (FSDP2) would reshard what a
    step has gathered; and they are copies, since storage that numpy has seen cannot be freed by resharding.
    """
    from peft import get_peft_model_state_dict

    weights: dict[str, torch.Tensor] = get_peft_model_state_dict(
        model,
        state_dict={name: weight.detach() for name, weight in model.named_parameters(remove_duplicate=False)},
        adapter_name=model.active_adapter,
    )
    return {name: weight.clone() for name, weight in weights.items()}


def save_adapter(model: Any, folder: Path, weights: Mapping[str, torch.Tensor] | None = None) -> None:
    """Writes the adapter `ADAPTER` with its portable configuration into an existing folder.

    `weights`, by the names of the model's parameters, are written instead of the model's own where those are sharded.
    """
    model.save_pretrained(str(folder), selected_adapters=[ADAPTER], safe_serialization=True, state_dict=weights)
    (folder / "README.md").unlink(missing_ok=True)
    _write_portable_config(folder)


def save_adapter_config(model: Any, folder: Path) -> None:
    """Writes the active adapter's portable configuration into an existing folder."""
    model.peft_config[model.active_adapter].save_pretrained(str(folder))
    _write_portable_config(folder)


def _write_portable_config(folder: Path) -> None:
    """Rewrites peft's configuration deterministically, the base model as an embedded name or an absolute path."""
    values = read_json(folder / ADAPTER_CONFIG)
    base = Path(values.get("base_model_name_or_path") or "")
    names = {folder: name for name, folder in embedded().items()}
    if base in names:
        values["base_model_name_or_path"] = names[base]
    elif base.is_dir():
        values["base_model_name_or_path"] = str(base.resolve())
    (folder / ADAPTER_CONFIG).write_text(canonical_adapter_config(values), encoding="utf-8")
