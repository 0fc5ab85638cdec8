"""Dry run: compares a run's needs with this machine, without loading weights or writing files."""

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from oel_core.config.run import OelConfig
from oel_core.errors import ConfigError, OelError
from oel_core.evaluation import make_suite
from oel_core.models.architectures import KNOWN, Architecture, known_architecture, read_architecture
from oel_core.models.checkpoints import (
    CONFIG,
    INDEX,
    WEIGHTS,
    adapter_base,
    embedded,
    is_adapter,
    read_json,
    resolve_model,
)
from oel_core.models.hub import HUB_TIMEOUT_S, cached_file, hub_answers
from oel_core.preflight.caution import find_cautions
from oel_core.preflight.check import check_adapter, check_constraint, check_engines, check_experience, check_replay
from oel_core.preflight.estimate import StageNeed, estimate, trained_parameters, transient_disk

GIB = 2**30


@dataclass(frozen=True)
class Machine:
    """Resources of this machine, in bytes."""

    device: str
    """`cpu`, or the GPU's name."""
    memory: int
    """Of that device."""
    disk: int
    """Free space under the run root."""


@dataclass(frozen=True)
class DryRun:
    """Estimated needs, missing requirements and warnings."""

    model: str
    parameters: int | None
    trained: int | None
    """Trainable parameters; None where the architecture is unknown."""
    known_from: str
    """Source of the architecture."""
    stages: tuple[StageNeed, ...]
    machine: Machine
    disk: int
    """Peak disk usage of the whole run, bytes."""
    missing: tuple[str, ...]
    """Empty: the run can start."""
    cautions: tuple[str, ...]
    """Warnings about unstable settings; the run can start."""

    @property
    def memory(self) -> int | None:
        """Peak over all stages."""
        peaks = [stage.memory for stage in self.stages]
        return None if None in peaks else max(peak for peak in peaks if peak is not None)


def dry_run(config: OelConfig, root: Path) -> DryRun:
    """Checks the requirements of `oel run`.

    Raises:
        ConfigError, ArtifactError: as `check_experience`.
    """
    check_experience(config)
    architecture, source = find_architecture(config.model.path)
    stages, machine = tuple(estimate(config, architecture)), inspect_machine(config, root)
    disk = sum(stage.disk * stage.rounds for stage in stages) + transient_disk(config, architecture)
    report = DryRun(
        model=config.model.path,
        parameters=architecture.parameters if architecture else None,
        trained=trained_parameters(config, architecture) if architecture else None,
        known_from=source,
        stages=stages,
        machine=machine,
        disk=disk,
        missing=(),
        cautions=tuple(find_cautions(config)),
    )
    missing = [*_missing_model(config), *_missing_suites(config), *_missing_inputs(config)]
    missing += _missing_hardware(config, report)
    return replace(report, missing=tuple(missing))


def inspect_machine(config: OelConfig, root: Path) -> Machine:
    """The device of `model.device` (the CPU where CUDA is not available), and the disk of `root`."""
    place = next(folder for folder in (root.resolve(), *root.resolve().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    import torch

    if config.model.device != "cpu" and torch.cuda.is_available():
        return Machine(torch.cuda.get_device_name(0), torch.cuda.mem_get_info(0)[1], free)
    return Machine("cpu", os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), free)


def find_architecture(path: str) -> tuple[Architecture | None, str]:
    """A model's architecture and its source: its folder, the local hub cache, the known ones, or the hub."""
    try:
        source = resolve_model(path)
    except OelError:
        return known_architecture(path), "known architectures" if path in KNOWN else "unknown"
    if isinstance(source, Path):
        if is_adapter(source):
            return find_architecture(adapter_base(source))
        return read_architecture(read_json(source / CONFIG)), path if path in embedded() else str(source / CONFIG)
    cached = cached_file(source, CONFIG)
    if cached is not None:
        return read_architecture(read_json(cached)), str(cached)
    if source in KNOWN:
        return known_architecture(source), "known architectures"
    if (fetched := _from_hub(source)) is not None:
        return read_architecture(read_json(fetched)), "the hub"
    return None, "unknown"


def _from_hub(hub_id: str) -> Path | None:
    from huggingface_hub import hf_hub_download

    if not hub_answers():
        return None
    try:
        return Path(hf_hub_download(hub_id, CONFIG, etag_timeout=HUB_TIMEOUT_S))
    except Exception:  # any failure means not available
        return None


def _missing_model(config: OelConfig) -> list[str]:
    try:
        source = resolve_model(config.model.path)
    except OelError as error:
        return [f"model: {error}"]
    if isinstance(source, Path):
        return _missing_chat(config)
    if any(cached_file(source, name) for name in (WEIGHTS, INDEX)) or _hub_gives(source):
        return []
    return [
        f"model: {source} is not in the local hub cache, and the hub cannot be reached: download it where it can, "
        "and name its folder with --set model.path=FOLDER"
    ]


def _missing_chat(config: OelConfig) -> list[str]:
    """Checks a local model's tokenizer and chat template on the first messages of an episode."""
    # transformers takes a second to import
    from oel_core.models.loading import load_tokenizer
    from oel_core.policies.text.chat import check_template

    path = config.model.openai.tokenizer or config.model.path
    try:
        check_template(load_tokenizer(path), config.model, path)
    except OelError as error:
        return [f"model: {error}"]
    return []


def _hub_gives(hub_id: str) -> bool:
    from huggingface_hub import HfApi

    if not hub_answers():
        return False
    try:
        HfApi().model_info(hub_id, timeout=HUB_TIMEOUT_S)
    except Exception:  # as above
        return False
    return True


def _missing_suites(config: OelConfig) -> list[str]:
    missing = []
    for name, options in config.evaluate.ood.items():
        try:
            make_suite(name, options, config)
        except ConfigError as error:
            missing.append(f"evaluation: {error}")
    return missing


def _missing_inputs(config: OelConfig) -> list[str]:
    """Checks backends, constrained extraction and the replay file."""
    missing = []
    looks = {
        "adapter": lambda config: check_adapter(config.model),
        "engine": check_engines,
        "extraction": check_constraint,
        "replay": check_replay,
    }
    for name, look in looks.items():
        try:
            look(config)
        except OelError as error:
            missing.append(f"{name}: {error}")
    return missing


def _missing_hardware(config: OelConfig, report: DryRun) -> list[str]:
    missing, machine = [], report.machine
    if config.model.device == "cuda" and machine.device == "cpu":
        missing.append("gpu: model.device is cuda, but there is no CUDA device: use one, or --set model.device=cpu")
    if report.memory is not None and report.memory > machine.memory:
        missing.append(
            f"memory: up to {report.memory / GIB:.1f} GiB are needed, {machine.device} has {machine.memory / GIB:.1f}: "
            "lower model.batch_size, model.max_length or distill.micro_batch_tokens, or use model.lora"
        )
    if report.disk > machine.disk:
        missing.append(f"disk: up to {report.disk / GIB:.1f} GiB are needed, {machine.disk / GIB:.1f} are free")
    return missing
