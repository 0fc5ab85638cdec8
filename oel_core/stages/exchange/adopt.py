"""Adopt: imports another machine's distillation of a round's bundle.

Its `distill` folder becomes the round's own; the round then continues as if it had been trained here.
"""

import json
import re
import shutil
from pathlib import Path

from oel_core.bundles.making import made_bundles
from oel_core.errors import ArtifactError, ConfigError
from oel_core.models.checkpoints import (
    ADAPTER_CONFIG,
    adapter_base,
    check_folder,
    is_adapter,
    model_digest,
    read_json,
    resolve_model,
)
from oel_core.rounds.context import CHECKPOINT
from oel_core.rounds.round import Round
from oel_core.runs.files import write_atomic
from oel_core.runs.folder import MANIFEST
from oel_core.runs.manifest import Manifest, differences, digest_file, read_record
from oel_core.stages.distill import SECTIONS, STAGE, inputs_of

ORIGIN = "origin.json"
"""In the adopted stage: the manifest that the other machine wrote."""
LOCAL_SETTINGS = ("model.path", "knowledge.selection.", "knowledge.allow_empty", "review.mode")
"""Prefixes of settings that do not affect training from a bundle."""
_FILE = re.compile(
    rf"[a-z_]+\.jsonl?|{re.escape(CHECKPOINT)}/[A-Za-z0-9][A-Za-z0-9._-]*\.(?:safetensors|json|jinja|txt|model)"
)


def adopt(round: Round, folder: Path) -> Manifest:
    """Copies the `distill` folder of the other machine's run; finished work is not replaced.

    Raises:
        ArtifactError: the folder is not a finished distillation of a bundle of this round and from its student's
            start, or a file is missing or changed.
        ConfigError: it was trained with other settings than the round's.
    """
    origin = read_record(folder / MANIFEST, Manifest)
    _require_ours(round, folder, origin)
    _require_files(folder, origin)
    check_folder(folder / CHECKPOINT)

    def work(partial: Path) -> dict[str, float]:
        for name in origin.outputs:
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, partial / name)
        if is_adapter(partial / CHECKPOINT):
            _name_base(partial / CHECKPOINT, round.student())
        shutil.copyfile(folder / MANIFEST, partial / ORIGIN)
        return {name: value for name, value in origin.counts.items() if name != "seconds"}

    return round.perform(STAGE, SECTIONS, inputs_of(round), work)


def _require_ours(round: Round, folder: Path, origin: Manifest) -> None:
    bundle = origin.key.inputs.get("bundle")
    if origin.key.stage.partition("/")[2] != STAGE or bundle is None:
        raise ArtifactError(f"{folder} is no distillation of a bundle: give the round_01/distill of `oel run --bundle`")
    if bundle not in made_bundles(round):
        raise ArtifactError(f"{folder} was trained on the bundle {bundle}, which is none of round {round.number}'s")
    if origin.key.inputs.get("policy") != model_digest(round.student()):
        raise ArtifactError(f"{folder} was trained from another model than {round.student()}, which made the bundle")
    own = round.key(STAGE, SECTIONS, {}).config
    wanted, trained = (
        {name: value for name, value in config.items() if not name.startswith(LOCAL_SETTINGS)}
        for config in (own, origin.key.config)
    )
    changes = differences(wanted, trained)
    if changes:
        raise ConfigError(
            "it was trained with other settings than the project has:\n  "
            + "\n  ".join(changes)
            + "\nGive the project these settings (oel gather --set ...), or train again with the project's"
        )


def _require_files(folder: Path, origin: Manifest) -> None:
    for name, entry in origin.outputs.items():
        if _FILE.fullmatch(name) is None:
            raise ArtifactError(f"{folder / MANIFEST}: {name[:100]!a} is no file of a distillation")
        path = folder / name
        if not path.is_file() or path.stat().st_size != entry.bytes or digest_file(path) != entry.digest:
            raise ArtifactError(f"{path} is missing or was changed since it was trained: copy the folder again")


def _name_base(checkpoint: Path, start: str) -> None:
    """Sets an adapter's base model to this machine's copy."""
    resolved = resolve_model(start)
    base = adapter_base(resolved) if isinstance(resolved, Path) and is_adapter(resolved) else start
    values = read_json(checkpoint / ADAPTER_CONFIG) | {"base_model_name_or_path": base}
    write_atomic(checkpoint / ADAPTER_CONFIG, (json.dumps(values, indent=2) + "\n").encode())
