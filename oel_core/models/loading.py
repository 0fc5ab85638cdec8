"""Loading, adapting and saving models. The only module that imports peft.

Remote code is never trusted, pickled weights are never loaded.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from oel_core.config.run import LoraConfig, ModelConfig
from oel_core.errors import ArtifactError, ConfigError, OelError, PolicyError
from oel_core.models.architectures import build_on_meta
from oel_core.models.checkpoints import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    TOKENIZER_FILES,
    WEIGHTS,
    adapter_base,
    canonical_adapter_config,
    embedded,
    is_adapter,
    model_digest,
    read_json,
    resolve_model,
)
from oel_core.models.hub import require_hub
from oel_core.models.tying import find_tied_adapter
from oel_core.runs.files import filling

__all__ = [
    "add_lora",
    "copy_adapter",
    "current_weights",
    "is_lora",
    "load_model",
    "load_tokenizer",
    "merge_lora",
    "model_digest",
    "pick_device",
    "plain_model",
    "resolve_model",
    "save_model",
    "skeleton",
    "use_adapter",
    "write_weights",
]

ADAPTER = "default"
"""Name of the adapter that a run trains and saves."""


@contextmanager
def _no_bars() -> Iterator[None]:
    """Disables transformers' progress bars."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def pick_device(config: ModelConfig) -> torch.device:
    """Resolves `model.device` on this machine. ConfigError where CUDA is requested and not available."""
    available = torch.cuda.is_available()
    if config.device == "cuda" and not available:
        raise ConfigError("model.device is cuda, but no CUDA device is available: set it to auto or cpu")
    return torch.device("cuda" if available and config.device != "cpu" else "cpu")


@_no_bars()
def _load_base(source: Path | str, config: ModelConfig) -> PreTrainedModel:
    from safetensors import SafetensorError

    failure: type[OelError] = ArtifactError
    if isinstance(source, str):
        require_hub(source)
        failure = PolicyError
    try:
        model = AutoModelForCausalLM.from_pretrained(
            source, dtype=getattr(torch, config.dtype), use_safetensors=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise failure(f"no causal language model can be loaded from {source}: {error}") from error
    torch.nn.Module.to(model, pick_device(config))
    loaded: PreTrainedModel = model
    return loaded


def load_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint, with left padding; an adapter without one uses its base model's."""
    source = resolve_model(path)
    if isinstance(source, Path) and is_adapter(source) and not any((source / f).is_file() for f in TOKENIZER_FILES):
        return load_tokenizer(adapter_base(source))
    failure: type[OelError] = ArtifactError
    if isinstance(source, str):
        require_hub(source)
        failure = PolicyError
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, padding_side="left")
    except (OSError, ValueError, KeyError) as error:
        raise failure(f"no tokenizer can be loaded from {source}: {error}") from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    loaded: PreTrainedTokenizerBase = tokenizer
    return loaded


def _load_adapter(folder: Path, config: ModelConfig) -> Any:
    from peft import PeftModel
    from safetensors import SafetensorError

    base = resolve_model(adapter_base(folder))
    if isinstance(base, Path) and is_adapter(base):
        raise ArtifactError(f"{folder / ADAPTER_CONFIG}: its base {base} is an adapter itself: merge that one first")
    if read_json(folder / ADAPTER_CONFIG).get("megatron_config"):
        raise ArtifactError(f"{folder / ADAPTER_CONFIG}: megatron_config is set, which names code to import: remove it")
    try:
        model = PeftModel.from_pretrained(
            _load_base(base, config), str(folder), adapter_name=ADAPTER, is_trainable=True
        )
    except (ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ArtifactError(f"the adapter in {folder} does not fit its base {base}: {error}") from error
    if (problem := find_tied_adapter(model.get_base_model())) is not None:
        raise ArtifactError(f"the adapter in {folder} cannot be used: {problem}")
    return model


def load_model(path: str, config: ModelConfig) -> tuple[Any, PreTrainedTokenizerBase]:
    """The model in eval mode, in `config.dtype` on `config.device`, and its tokenizer.

    An adapter folder gives a `PeftModel` with a trainable adapter; `merge_lora` makes it a plain model. `config.path`
    and `config.lora` are ignored: `path` is loaded.

    Raises:
        ArtifactError: a folder that is not a checkpoint, is corrupt, or has a tokenizer that is larger than the model.
        PolicyError: the embedded model has no weights, or the hub does not provide the model.
        ConfigError: the device is not available.
    """
    source = resolve_model(path)
    adapted = isinstance(source, Path) and is_adapter(source)
    model: Any = _load_adapter(Path(source), config) if adapted else _load_base(source, config)
    tokenizer = load_tokenizer(path)
    rows = model.get_input_embeddings().weight.shape[0]  # the embedding may be adapted
    if len(tokenizer) > rows:
        raise ArtifactError(
            f"{path}: its tokenizer has {len(tokenizer)} tokens, its model only {rows}: they do not belong together"
        )
    return model.eval(), tokenizer


def skeleton(path: str) -> PreTrainedModel | None:
    """The model on the meta device (shapes without data); None where its configuration is not available locally.

    Raises:
        ArtifactError, PolicyError: as `resolve_model`.
    """
    source = resolve_model(path)
    if isinstance(source, Path) and is_adapter(source):
        return skeleton(adapter_base(source))
    try:
        config = AutoConfig.from_pretrained(source, local_files_only=True, trust_remote_code=False)
        return build_on_meta(config)
    except (OSError, ValueError, KeyError):  # not local or unknown architecture: loading raises
        return None


def is_lora(model: Any) -> bool:
    """Whether the model has an adapter."""
    from peft import PeftModel

    return isinstance(model, PeftModel)


def plain_model(model: Any) -> PreTrainedModel:
    """The underlying transformers model, with its adapter layers if it has an adapter."""
    plain: PreTrainedModel = model.get_base_model() if is_lora(model) else model
    return plain


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


def _portable_adapter_config(folder: Path) -> None:
    """Rewrites peft's configuration deterministically, the base model as an embedded name or an absolute path."""
    values = read_json(folder / ADAPTER_CONFIG)
    base = Path(values.get("base_model_name_or_path") or "")
    names = {folder: name for name, folder in embedded().items()}
    if base in names:
        values["base_model_name_or_path"] = names[base]
    elif base.is_dir():
        values["base_model_name_or_path"] = str(base.resolve())
    (folder / ADAPTER_CONFIG).write_text(canonical_adapter_config(values), encoding="utf-8")


@_no_bars()
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
            model.save_pretrained(str(partial), selected_adapters=[ADAPTER], safe_serialization=True)
            (partial / "README.md").unlink(missing_ok=True)
            _portable_adapter_config(partial)
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
        from peft import get_peft_model_state_dict

        adapter: dict[str, torch.Tensor] = get_peft_model_state_dict(model, adapter_name=model.active_adapter)
        return adapter
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
            model.peft_config[model.active_adapter].save_pretrained(str(partial))
            _portable_adapter_config(partial)
    partial.rename(folder)
