"""What decides the last bits of a sum besides its numbers: how many threads add it up, in vectors of which width."""

import sys

from oel_core.types import Record

RECORD = "arithmetic.json"
"""In a run's folder: how the run began to compute."""


class Arithmetic(Record):
    """How torch computes in a process. Equal bytes are promised only where all of it is equal."""

    threads: int
    """Of one operation."""
    capability: str
    """Vector instructions in use: DEFAULT, AVX2, AVX512 and the like."""
    torch: str
    """Its version."""


def arithmetic() -> Arithmetic | None:
    """This process's; None where nothing has imported torch, and this does not either: it takes a second."""
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    return Arithmetic(
        threads=torch.get_num_threads(),
        capability=torch.backends.cpu.get_cpu_capability(),
        torch=str(torch.__version__),
    )
