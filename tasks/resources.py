"""Device memory between stages: generation and training alternate on one device."""

import gc
import sys


def free_policies() -> None:
    """Closes loaded policies and frees their device memory before training."""
    from oel_core.policies import release

    release()
    gc.collect()
    torch = sys.modules.get("torch")  # not imported: no generation in this process
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
