"""TRL's distillation trainer, without vLLM. The only module that imports TRL.

Importing `trl.DistillationTrainer` imports vLLM too wherever that is installed: ten seconds, its own environment
variables and patches of torch, in a process that trains. Responses by vLLM come from an engine in a process of its own
here (`policies.vllm`), so TRL is told while it is imported that there is none.
"""

from trl import import_utils

_is_vllm_available = import_utils.is_vllm_available
import_utils.is_vllm_available = lambda min_version=None: False
try:
    from trl import DistillationConfig, DistillationTrainer
finally:
    import_utils.is_vllm_available = _is_vllm_available

__all__ = ["DistillationConfig", "DistillationTrainer"]
