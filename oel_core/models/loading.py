"""Loading models and tokenizers. Remote code is never trusted, pickled weights are never loaded."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from oel_core.compat.transformers import no_progress_bars
from oel_core.config.run import ModelConfig
from oel_core.errors import ArtifactError, ConfigError, OelError, PolicyError
from oel_core.models.adapters import load_adapter
from oel_core.models.architectures import build_on_meta
from oel_core.models.checkpoints import ADAPTER_CONFIG, TOKENIZER_FILES, adapter_base, is_adapter, resolve_model
from oel_core.models.hub import require_hub


def pick_device(config: ModelConfig) -> torch.device:
    """Resolves `model.device` on this machine. ConfigError where CUDA is requested and not available."""
    available = torch.cuda.is_available()
    if config.device == "cuda" and not available:
        raise ConfigError("model.device is cuda, but no CUDA device is available: set it to auto or cpu")
    return torch.device("cuda" if available and config.device != "cpu" else "cpu")


@no_progress_bars()
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


def _load_adapted(folder: Path, config: ModelConfig) -> Any:
    base = resolve_model(adapter_base(folder))
    if isinstance(base, Path) and is_adapter(base):
        raise ArtifactError(f"{folder / ADAPTER_CONFIG}: its base {base} is an adapter itself: merge that one first")
    return load_adapter(_load_base(base, config), folder)


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
    model: Any = _load_adapted(Path(source), config) if adapted else _load_base(source, config)
    tokenizer = load_tokenizer(path)
    rows = model.get_input_embeddings().weight.shape[0]  # the embedding may be adapted
    if len(tokenizer) > rows:
        raise ArtifactError(
            f"{path}: its tokenizer has {len(tokenizer)} tokens, its model only {rows}: they do not belong together"
        )
    return model.eval(), tokenizer


def local_meta_model(path: str) -> PreTrainedModel | None:
    """The model on the meta device (shapes without data); None where its configuration is not available locally.

    Raises:
        ArtifactError, PolicyError: as `resolve_model`.
    """
    source = resolve_model(path)
    if isinstance(source, Path) and is_adapter(source):
        return local_meta_model(adapter_base(source))
    try:
        config = AutoConfig.from_pretrained(source, local_files_only=True, trust_remote_code=False)
        return build_on_meta(config)
    except (OSError, ValueError, KeyError):  # not local or unknown architecture: loading raises
        return None
