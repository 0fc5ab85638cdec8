"""Numbers of a benchmark: median and spread, peak memory, and what they were measured on."""

import gc
import os
import platform
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

import torch

from tests.benchmarks.contender import Contender

MEGABYTE = 1024 * 1024


@dataclass(frozen=True)
class Spread:
    """A repeated measurement."""

    median: float
    low: float
    high: float
    repeats: int

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f}, n={self.repeats})"


def spread(values: Sequence[float]) -> Spread:
    """Median, least and greatest."""
    return Spread(statistics.median(values), min(values), max(values), len(values))


def machine(device: str) -> dict[str, str | int]:
    """What the figures were measured on and with."""
    facts: dict[str, str | int] = {
        "date": date.today().isoformat(),
        "device": torch.cuda.get_device_name() if device == "cuda" else f"CPU, {platform.machine()}",
        "cores": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
    }
    return facts | {name: version(name) for name in ("torch", "transformers", "trl")}


def _status(field: str) -> int:
    """A memory figure of this process in bytes (Linux)."""
    found = re.search(rf"^{field}:\s+(\d+) kB$", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"/proc/self/status has no {field}: peak memory on a CPU is measured on Linux only")
    return int(found[1]) * 1024


def peak_memory(contender: Contender, updates: int, device: str) -> int:
    """Bytes that updates need beyond what was there before: gradients, optimiser, activations, cached knowledge.

    On a CPU the resident memory's high-water mark, so it must run in a process that did nothing else before.
    """
    gc.collect()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # sets the high-water mark to what is there
        before = _status("VmRSS")
    for _ in range(updates):
        contender.update()
    return (torch.cuda.max_memory_allocated() if device == "cuda" else _status("VmHWM")) - before
