"""TRL's distillation trainer, imported without vLLM. The only module that imports TRL.

Importing `trl.DistillationTrainer` also imports an installed vLLM: ten seconds, its environment variables and its
patches of torch, in the training process. Here vLLM runs in a process of its own (`policies.vllm`), so vLLM is hidden
while TRL is imported.
"""

from trl import import_utils

_is_vllm_available = import_utils.is_vllm_available
import_utils.is_vllm_available = lambda min_version=None: False
try:
    from trl import DistillationConfig, DistillationTrainer
finally:
    import_utils.is_vllm_available = _is_vllm_available

__all__ = ["DistillationConfig", "DistillationTrainer"]
