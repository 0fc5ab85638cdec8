"""Converts GGUF weights to a Hugging Face folder in float32. Needs the extra `gguf`."""

from pathlib import Path
from typing import Any

from oel_core.errors import ArtifactError


def convert_gguf(file: Path, folder: Path) -> None:
    """Writes weights in float32, configuration, tokenizer and chat template. Quantised values are dequantised.

    The quantization is removed from the configuration, so that loaders do not expect packed weights.

    Raises:
        ArtifactError: transformers cannot read the file.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        read: Any = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
        config = type(read.config).from_dict(
            {name: value for name, value in read.config.to_dict().items() if name != "quantization_config"}
        )
        model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        model.load_state_dict(read.state_dict())
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ArtifactError(f"these GGUF weights cannot be converted: {error}") from error
    model.generation_config = read.generation_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
