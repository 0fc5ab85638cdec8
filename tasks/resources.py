"""Memory between stages: generation and training take turns on one device."""

import gc
import sys


def free_policies() -> None:
    """Closes the policy that generation left loaded and gives its device memory back, before training needs it."""
    from oel_core.policies import release

    release()
    gc.collect()
    torch = sys.modules.get("torch")  # where nothing was generated there is nothing to free, nor a reason to import it
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
