"""The properties of a process that affect floating-point rounding: number of threads, vector instructions, torch
version."""

import sys

from oel_core.types import Record

RECORD = "arithmetic.json"
"""In a run's folder: the properties at the run's start."""


class Arithmetic(Record):
    """How torch computes in a process. Outputs are reproducible to the byte only if all fields are equal."""

    threads: int
    """Threads within one operation."""
    capability: str
    """Vector instructions in use: DEFAULT, AVX2, AVX512 and the like."""
    torch: str
    """torch's version."""


def arithmetic() -> Arithmetic | None:
    """The properties of this process; None if it has not imported torch. Does not import torch itself, which takes a
    second."""
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    return Arithmetic(
        threads=torch.get_num_threads(),
        capability=torch.backends.cpu.get_cpu_capability(),
        torch=str(torch.__version__),
    )
