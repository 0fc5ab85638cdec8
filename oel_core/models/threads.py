"""Chooses torch's number of threads from the free cores and the model's size.

A run keeps its first choice, because the order of a reduction affects the last bits of its result.
"""

import logging
import os
from pathlib import Path

from oel_core.config.run import ModelConfig
from oel_core.errors import OelError
from oel_core.models.checkpoints import resolve_model
from oel_core.runs.arithmetic import RECORD, Arithmetic, arithmetic
from oel_core.runs.files import write_atomic
from oel_core.runs.manifest import differences, read_optional

VARIABLE = "OMP_NUM_THREADS"
CGROUP = Path("/sys/fs/cgroup")
_BYTES_A_THREAD = 20_000_000
"""Bytes of weights per thread, below which another thread does not pay: 5 million parameters in float32."""


def free_cores(load: float | None = None) -> int:
    """Cores available to this process (affinity, container quota) minus the load of others; at least 1.

    Args:
        load: one-minute load average; None reads the system's.
    """
    busy = os.getloadavg()[0] if load is None else load
    return max(1, min(_allowed(), _quota()) - round(busy))


def _allowed() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quota() -> int:
    """The container's CPU quota in whole cores (cgroup v2, else v1); all cores without a limit."""
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
    """Maximum useful number of threads by the size of the weights; None where these are not local.

    Returns None for an invalid path too; loading it raises.
    """
    try:
        folder = resolve_model(path)
    except OelError:
        return None
    if not isinstance(folder, Path):
        return None
    return max(1, sum(file.stat().st_size for file in folder.glob("*.safetensors")) // _BYTES_A_THREAD)


def choose_threads(model: ModelConfig, kept: int | None = None) -> int:
    """`OMP_NUM_THREADS` if set, else `model.threads`, else the run's recorded number, else from the free cores.

    Args:
        model: the model's path and `threads`.
        kept: the number recorded when the run started.
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
    """Sets torch's number of threads, in all threads of this process, by `choose_threads`."""
    import torch

    torch.set_num_threads(choose_threads(model, kept))


def set_run_threads(run: Path, model: ModelConfig) -> list[str]:
    """Sets torch's number of threads for a run and records it in the run's folder. Requires the run's lock.

    Returns:
        `name: before → now` for each changed property of the arithmetic; also logged as a warning. Finished stages
        stay valid, but further results may differ in the last bits from those of an uninterrupted run.
    """
    before = read_optional(run / RECORD, Arithmetic)
    use_threads(model, before.threads if before else None)
    now = arithmetic()
    assert now is not None  # torch is imported
    if before is None:
        write_atomic(run / RECORD, now.model_dump_json(indent=1).encode())
        return []
    changed = differences(before.model_dump(), now.model_dump())
    if changed:
        logging.getLogger(__name__).warning(
            "%s is resumed with other arithmetic than it began with (%s): finished stages are reused, but bytes and "
            "losses from here on may differ from an uninterrupted run's. To resume with the same arithmetic: %s",
            run,
            ", ".join(changed),
            _advice(before, now),
        )
    return changed


def _advice(before: Arithmetic, now: Arithmetic) -> str:
    changes = []
    if before.threads != now.threads:
        changes.append(f"{VARIABLE}={before.threads}, or unset it and set model.threads={before.threads}")
    if before.capability != now.capability:
        changes.append(f"ATEN_CPU_CAPABILITY={before.capability.lower()}, where the processor has it")
    if before.torch != now.torch:
        changes.append(f"torch {before.torch}")
    return "; ".join(changes)
