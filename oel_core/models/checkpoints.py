"""Checkpoint folders: validation, base models of adapters, digests.

Two kinds: a full Hugging Face model, and a LoRA adapter (peft) that names its base model. Weights are safetensors only:
other formats may execute code when loaded.
"""

import functools
import hashlib
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from oel_core.errors import ArtifactError, PolicyError
from oel_core.models.fetched import MODELS, fetched_folder
from oel_core.models.hub import require_hub
from oel_core.text.nearest import nearest

SEED_LM, SEED_LM_TWO_WORLDS = "seed-lm", "seed-lm-two-worlds"
SEED_LM_WEIGHTS = Path(__file__).parents[1] / "seed_lm" / "weights"
SEED_LM_TWO_WORLDS_WEIGHTS = Path(__file__).parents[1] / "seed_lm" / "two_worlds"
WEIGHTS, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
ADAPTER_WEIGHTS, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_COUNTED = (
    *("*.safetensors", INDEX, CONFIG, "generation_config.json", ADAPTER_CONFIG, "chat_template.jinja"),
    *("tokenizer*.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt"),
)
_CHUNK = 1 << 20


def embedded() -> dict[str, Path]:
    """Name → folder of the models included in the package."""
    return {SEED_LM: SEED_LM_WEIGHTS, SEED_LM_TWO_WORLDS: SEED_LM_TWO_WORLDS_WEIGHTS}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a checkpoint, or ArtifactError naming the file."""
    try:
        values = from_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(values, dict):
        raise ArtifactError(f"{path} must hold one JSON object, not a {type(values).__name__}")
    return values


def is_adapter(folder: Path) -> bool:
    """Whether the folder holds an adapter rather than a full model."""
    return (folder / ADAPTER_CONFIG).is_file()


def adapter_base(folder: Path) -> str:
    """An adapter's base model: a path, a hub id or `seed-lm`. A relative path is resolved against `folder` too."""
    values = read_json(folder / ADAPTER_CONFIG)
    if values.get("peft_type") != "LORA":
        raise ArtifactError(f"{folder / ADAPTER_CONFIG}: peft_type is {values.get('peft_type')!r}, only LORA is read")
    base = values.get("base_model_name_or_path")
    if not base or not isinstance(base, str):
        raise ArtifactError(f"{folder / ADAPTER_CONFIG}: base_model_name_or_path is missing: name the base model there")
    beside = folder / base
    return str(beside) if not Path(base).is_absolute() and beside.is_dir() else base


def _missing(folder: Path) -> list[str]:
    """The reasons why the folder is not a valid checkpoint."""
    if is_adapter(folder):
        return [] if (folder / ADAPTER_WEIGHTS).is_file() else [ADAPTER_WEIGHTS]
    missing = [] if (folder / CONFIG).is_file() else [f"{CONFIG} (or {ADAPTER_CONFIG} of an adapter)"]
    if (folder / INDEX).is_file():
        shards = read_json(folder / INDEX).get("weight_map")
        if not isinstance(shards, dict) or not all(isinstance(shard, str) for shard in shards.values()):
            raise ArtifactError(f"{folder / INDEX}: weight_map must say which file holds each tensor: restore the file")
        missing += [shard for shard in sorted(set(shards.values())) if not os.path.isfile(folder / shard)]
    elif not (folder / WEIGHTS).is_file():
        others = sorted(path.name for path in folder.glob("pytorch_model*.bin"))
        hint = f" (found {', '.join(others)}: convert it, only safetensors are read)" if others else ""
        missing.append(WEIGHTS + hint)
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        missing.append(TOKENIZER_FILES[0])
    return missing


def check_folder(folder: Path) -> Path:
    """The folder if it is a valid checkpoint, else ArtifactError that lists what is missing."""
    missing = _missing(folder)
    if missing:
        raise ArtifactError(f"{folder} is not a checkpoint, it lacks: {'; '.join(missing)}")
    return folder


def is_named(path: str) -> bool:
    """Whether this is the name of an embedded or fetched model. Names take precedence over folders."""
    return path in embedded() or path in MODELS


def resolve_model(path: str) -> Path | str:
    """A checkpoint folder, or a hub id unchanged. An existing folder takes precedence over a hub id.

    `seed-lm` and `seed-lm-two-worlds` are embedded; the names of `oel models list` are fetched models.

    Raises:
        ArtifactError: the path is a file, a folder that is not a checkpoint, or no folder and no possible hub id.
        PolicyError: the embedded model has no weights, or a model has not been fetched.
    """
    if path in embedded():
        folder = embedded()[path]
        if not (folder / WEIGHTS).is_file():
            raise PolicyError(f"the embedded model {path} has no weights in {folder}: run `oel seed-lm train`")
        return check_folder(folder)
    if path in MODELS:
        if not fetched_folder(path).is_dir():
            raise PolicyError(f"{path} is not in {fetched_folder(path)} yet: run `oel models fetch {path}`")
        return check_folder(fetched_folder(path))
    folder = Path(path).expanduser()
    if os.path.isdir(folder):
        return check_folder(folder)
    if os.path.exists(folder):
        raise ArtifactError(f"{path} is a file: a model is a folder, a hub id or `{SEED_LM}`")
    if not _HUB_ID.fullmatch(path):
        raise ArtifactError(
            f"no model in {path}: there is no such folder, and a hub id is owner/name: {_near_models(folder)}"
            f"known by name are {', '.join([*embedded(), *MODELS])}"
        )
    return path


def _near_models(missing: Path) -> str:
    """Known model names and sibling folders with a similar spelling."""
    try:
        beside = [str(path) for path in missing.parent.iterdir() if path.is_dir()]
    except OSError:
        beside = []
    return nearest(str(missing), [*embedded(), *MODELS, *beside])


def counted_files(folder: Path) -> list[Path]:
    """The files that determine a checkpoint's outputs: weights, configuration, tokenizer; sorted by name."""
    return sorted({path for pattern in _COUNTED for path in folder.glob(pattern) if path.is_file()})


def stamp(path: str) -> tuple[object, ...]:
    """Cache key from sizes and modification times of the checkpoint's files; a hub id is its own key."""
    resolved = resolve_model(path)
    if isinstance(resolved, str):
        return (resolved,)
    files = ((file.name, info.st_size, info.st_mtime_ns) for file in counted_files(resolved) for info in [file.stat()])
    base = stamp(adapter_base(resolved)) if is_adapter(resolved) else ()
    return (str(resolved.resolve()), *files, *base)


def canonical_adapter_config(values: dict[str, Any]) -> str:
    """An adapter's configuration as JSON with sorted keys and sorted module names (peft writes a set's order)."""
    ordered = {key: sorted(value, key=str) if isinstance(value, list) else value for key, value in values.items()}
    return json.dumps(ordered, sort_keys=True, indent=2) + "\n"


def _content(file: Path) -> Iterable[bytes]:
    if file.name == ADAPTER_CONFIG:  # the base model's path does not count; its contents are hashed
        values = {key: value for key, value in read_json(file).items() if key != "base_model_name_or_path"}
        yield canonical_adapter_config(values).encode()
        return
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


@functools.lru_cache(maxsize=64)
def _folder_digest(folder: Path, _stamp: tuple[object, ...]) -> str:
    total = hashlib.sha256()
    for file in counted_files(folder):
        single = hashlib.sha256()
        for chunk in _content(file):
            single.update(chunk)
        total.update(f"{file.name}\0{single.hexdigest()}\n".encode())
    if is_adapter(folder):
        total.update(f"base\0{model_digest(adapter_base(folder))}\n".encode())
    return total.hexdigest()


def _hub_revision(hub_id: str) -> str:
    from transformers import AutoConfig

    from oel_core.compat.transformers import revision_of

    require_hub(hub_id)
    try:
        commit = revision_of(AutoConfig.from_pretrained(hub_id, trust_remote_code=False))
    except (OSError, ValueError) as error:
        raise PolicyError(f"no folder {hub_id} here, and the hub gives no such model: {error}") from error
    if not commit:
        raise PolicyError(f"the hub does not say which revision of {hub_id} this is: download it and name its folder")
    return commit


def model_digest(path: str) -> str:
    """SHA-256 (hex) over the sorted names and contents of weights, configuration and tokenizer.

    An adapter's digest covers its base too. For a hub id: over the id and the revision it resolves to. Contents are
    hashed again only when a file's size or time changed.

    Raises:
        ArtifactError, PolicyError: as `resolve_model`; PolicyError when the hub cannot resolve the id.
    """
    resolved = resolve_model(path)
    if isinstance(resolved, str):
        return hashlib.sha256(f"hub\0{resolved}\0{_hub_revision(resolved)}".encode()).hexdigest()
    return _folder_digest(resolved, stamp(path))
