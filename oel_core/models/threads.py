"""How many threads torch computes with: as many as are free, no more than the model has work for.

A run keeps the number it began with, because the order in which sums are added decides their last bits.
"""

import logging
import os
from pathlib import Path

from oel_core.config.run import ModelConfig
from oel_core.errors import OelError
from oel_core.models.checkpoints import resolve_model
from oel_core.runs.arithmetic import RECORD, Arithmetic, arithmetic
from oel_core.runs.files import write_atomic
from oel_core.runs.manifest import differences, read_if_there

VARIABLE = "OMP_NUM_THREADS"
CGROUP = Path("/sys/fs/cgroup")
_BYTES_A_THREAD = 20_000_000
"""Weights below which one more thread waits longer than it computes: 5 million parameters in float32."""


def free_cores(load: float | None = None) -> int:
    """Cores that this process may use and that nobody else keeps busy; at least 1.

    Args:
        load: processes that want to run, averaged over a minute; None asks the system.
    """
    busy = os.getloadavg()[0] if load is None else load
    return max(1, min(_allowed(), _quota()) - round(busy))


def _allowed() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quota() -> int:
    """Whole cores that the container may use: version 2's file, else version 1's; without a limit all."""
    try:
        limit, period = (CGROUP / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            limit = (CGROUP / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (CGROUP / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return _allowed()
    return max(1, int(limit) // int(period)) if limit.isdecimal() and period.isdecimal() else _allowed()


def worth_threads(path: str) -> int | None:
    """Threads that a model has work for, by the size of its weights; None where those are not on this machine.

    A path that is no model is left to whoever loads it.
    """
    try:
        folder = resolve_model(path)
    except OelError:
        return None
    if not isinstance(folder, Path):
        return None
    return max(1, sum(file.stat().st_size for file in folder.glob("*.safetensors")) // _BYTES_A_THREAD)


def choose_threads(model: ModelConfig, kept: int | None = None) -> int:
    """`OMP_NUM_THREADS` where it is set, else `model.threads`, else what the run has kept, else what is free.

    Args:
        model: its size counts.
        kept: what the run began with.
    """
    asked = os.environ.get(VARIABLE, "").partition(",")[0].strip()
    if asked.isdecimal() and int(asked):
        return int(asked)
    if model.threads is not None:
        return model.threads
    if kept is not None:
        return kept
    free, worth = free_cores(), worth_threads(model.path)
    return free if worth is None else min(free, worth)


def use_threads(model: ModelConfig, kept: int | None = None) -> None:
    """Gives torch, in all threads of this process, what `choose_threads` says."""
    import torch

    torch.set_num_threads(choose_threads(model, kept))


def settle_threads(run: Path, model: ModelConfig) -> list[str]:
    """Gives torch its threads for a run, and keeps how it computes in the run's folder. Call it with the run locked.

    Returns:
        `name: then → now` for all in which it computes otherwise than the run did before; also logged as a warning.
        Finished stages stand, but what comes now may differ in last bits from a run that was not interrupted.
    """
    before = read_if_there(run / RECORD, Arithmetic)
    use_threads(model, before.threads if before else None)
    now = arithmetic()
    assert now is not None  # torch is imported
    if before is None:
        write_atomic(run / RECORD, now.model_dump_json(indent=1).encode())
        return []
    changed = differences(before.model_dump(), now.model_dump())
    if changed:
        logging.getLogger(__name__).warning(
            "%s goes on computing otherwise than it began (%s): finished stages are used as they are, but bytes and "
            "losses from here on may differ from an uninterrupted run's. To go on alike: %s",
            run,
            ", ".join(changed),
            _advice(before, now),
        )
    return changed


def _advice(before: Arithmetic, now: Arithmetic) -> str:
    told = []
    if before.threads != now.threads:
        told.append(f"{VARIABLE}={before.threads}, or unset it and set model.threads={before.threads}")
    if before.capability != now.capability:
        told.append(f"ATEN_CPU_CAPABILITY={before.capability.lower()}, where the processor has it")
    if before.torch != now.torch:
        told.append(f"torch {before.torch}")
    return "; ".join(told)
