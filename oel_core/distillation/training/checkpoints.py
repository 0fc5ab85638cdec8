"""Resumable training checkpoints: safetensors and JSON, published atomically by a rename.

A folder is written under a hidden name, flushed and renamed, so a folder named `step_00005` is always complete.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from oel_core.errors import ArtifactError
from oel_core.runs.files import filling, sync_folder

_NAME = re.compile(r"step_(\d{5,})")
_WEIGHTS, _OPTIMISER, _RNG, _STATE = "weights.safetensors", "optimizer.safetensors", "rng.safetensors", "state.json"
_TEACHER = "teacher.safetensors"


@dataclass(frozen=True)
class TrainingState:
    """The training state that the next step depends on."""

    step: int
    """Steps done."""
    weights: Mapping[str, Tensor]
    """Trainable parameters by name."""
    optimiser: Mapping[str, Any]
    """`get_optimizer_state_dict` of `torch.distributed.checkpoint`: whole tensors by the parameter's name."""
    scheduler: Mapping[str, Any]
    """`state_dict()` of the learning rate schedule; plain values."""
    rng: Mapping[str, Tensor]
    """States of torch's generators: `cpu`, `cuda0`, ..."""
    teacher: Mapping[str, Tensor] = field(default_factory=dict)
    """Weights of a moving teacher, by name; empty for a frozen one."""


def publish(folder: Path, write: Callable[[Path], object]) -> None:
    """Calls `write` on a hidden folder beside `folder`, flushes it to the disk, and renames it into place.

    Raises:
        ArtifactError: the disk is full; an earlier folder of that name is kept.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    with filling(beside):
        write(beside)
        for path in [*beside.rglob("*"), beside]:
            _flush(path)
    _remove(folder)
    os.rename(beside, folder)
    sync_folder(folder.parent)


def _flush(path: Path) -> None:
    if path.is_dir():
        sync_folder(path)
        return
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _remove(folder: Path) -> None:
    """Renames a folder to a hidden name before deleting it, so that a kill leaves no incomplete checkpoint."""
    if folder.exists():
        hidden = folder.with_name(f".{folder.name}.old.tmp")
        shutil.rmtree(hidden, ignore_errors=True)
        os.rename(folder, hidden)
        shutil.rmtree(hidden, ignore_errors=True)


def rng_state() -> dict[str, Tensor]:
    """States of torch's random generators."""
    states = {"cpu": torch.get_rng_state()}
    for index in range(torch.cuda.device_count()):
        states[f"cuda{index}"] = torch.cuda.get_rng_state(index)
    return states


def restore_rng(states: Mapping[str, Tensor]) -> None:
    """Restores torch's random generators; states of devices that are not present are ignored."""
    torch.set_rng_state(states["cpu"])
    for index in range(torch.cuda.device_count()):
        if f"cuda{index}" in states:
            torch.cuda.set_rng_state(states[f"cuda{index}"], index)


def with_scaled_rate(state: TrainingState, factor: float) -> TrainingState:
    """The state with the learning rate of the next and all later steps multiplied by `factor`."""
    groups = [
        {**group, "lr": factor * group["lr"], "initial_lr": factor * group["initial_lr"]}
        for group in state.optimiser["param_groups"]
    ]
    rates = {key: [factor * rate for rate in state.scheduler[key]] for key in ("base_lrs", "_last_lr")}
    return replace(state, optimiser={**state.optimiser, "param_groups": groups}, scheduler={**state.scheduler, **rates})


def _flatten(optimiser: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimiser's state as tensors named `parameter/key`, and the rest as plain values."""
    tensors, plain = {}, {}
    for parameter, entries in optimiser["state"].items():
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{parameter}/{key}"] = value
            else:
                plain[f"{parameter}/{key}"] = value
    return tensors, {"state": plain, "param_groups": optimiser["param_groups"]}


def _unflatten(tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> dict[str, Any]:
    state: dict[str, dict[str, Any]] = {}
    for name, value in [*tensors.items(), *plain["state"].items()]:
        parameter, key = name.split("/")
        state.setdefault(parameter, {})[key] = value
    return {"state": state, "param_groups": plain["param_groups"]}


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def step_of(checkpoint: Path | None) -> int:
    """Step number in a checkpoint's name; 0 for None."""
    return int(checkpoint.name.removeprefix("step_")) if checkpoint is not None else 0


class CheckpointFolder:
    """The resumable checkpoints of one distillation, of which the newest `keep` are kept."""

    def __init__(self, root: Path, keep: int) -> None:
        self.root = root
        self.keep = keep

    def all(self) -> list[Path]:
        """Complete checkpoints in step order."""
        found = [path for path in self.root.glob("step_*") if _NAME.fullmatch(path.name)]
        return sorted(found, key=step_of)

    def latest(self) -> Path | None:
        """The newest checkpoint, or None."""
        return next(iter(reversed(self.all())), None)

    def newest_before(self, step: int) -> Path | None:
        """The newest checkpoint of an earlier step."""
        return next((path for path in reversed(self.all()) if step_of(path) < step), None)

    def drop_after(self, step: int) -> None:
        """Removes the checkpoints of later steps, the newest first."""
        for path in reversed(self.all()):
            if step_of(path) > step:
                _remove(path)

    def sweep(self) -> None:
        """Removes incomplete folders of a killed run."""
        for leftover in self.root.glob(".*.tmp"):
            shutil.rmtree(leftover, ignore_errors=True)

    def clear(self) -> None:
        """Removes all checkpoints, once the distillation has finished."""
        for path in self.all():
            _remove(path)
        shutil.rmtree(self.root, ignore_errors=True)

    def save(self, state: TrainingState, extra: Callable[[Path], None]) -> Path:
        """Publishes a checkpoint, then removes the oldest ones. `extra` may add files to the folder."""

        def write(folder: Path) -> None:
            tensors, plain = _flatten(state.optimiser)
            save_file(_on_cpu(state.weights), folder / _WEIGHTS)
            save_file(_on_cpu(tensors), folder / _OPTIMISER)
            save_file(_on_cpu(state.rng), folder / _RNG)
            if state.teacher:
                save_file(_on_cpu(state.teacher), folder / _TEACHER)
            values = {"step": state.step, "optimiser": plain, "scheduler": dict(state.scheduler)}
            (folder / _STATE).write_text(json.dumps(values, indent=1), encoding="utf-8")
            extra(folder)

        target = self.root / f"step_{state.step:05d}"
        publish(target, write)
        for path in self.all()[: -self.keep]:
            _remove(path)
        return target


def load_checkpoint(folder: Path) -> TrainingState:
    """Reads a checkpoint onto the CPU.

    Raises:
        ArtifactError: a file is missing or corrupt.
    """
    try:
        teacher = folder / _TEACHER
        values = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        return TrainingState(
            step=values["step"],
            weights=load_file(folder / _WEIGHTS),
            optimiser=_unflatten(load_file(folder / _OPTIMISER), values["optimiser"]),
            scheduler=values["scheduler"],
            rng=load_file(folder / _RNG),
            teacher=load_file(teacher) if teacher.exists() else {},
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ArtifactError(
            f"{folder} is not a whole checkpoint ({error}): delete that folder to resume from the one before it"
        ) from error
