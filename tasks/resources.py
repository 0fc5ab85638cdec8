"""Memory between stages: generation and training take turns on one device."""

import gc


def free_policies() -> None:
    """Closes the policy that generation left loaded and gives its device memory back, before training needs it."""
    import torch

    from oel_core.policies import release

    release()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
