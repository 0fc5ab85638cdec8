"""vLLM's engine settings and the environment of its processes."""

from pathlib import Path
from typing import Any

from oel_core.config.run import ModelConfig
from oel_core.errors import ConfigError
from oel_core.models.checkpoints import ADAPTER_CONFIG, is_adapter, read_json, resolve_model

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Adapter ranks that vLLM makes room for."""
CPU_CACHE_GIB = 2.0
ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "VLLM_HOST_IP": "127.0.0.1",  # its processes talk to each other on loopback
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # forking a process with threads and torch in it can hang
}
"""What vLLM must find in its environment: no telemetry, no open ports, processes that start clean."""
QUIET = {"VLLM_LOGGING_LEVEL": "WARNING"}
"""Defaults of environment variables that the user has not set."""


def adapter_rank(path: str, config: ModelConfig) -> int:
    """The adapter rank that the engine must support; 0 if neither the run nor the checkpoint has adapters."""
    source = resolve_model(path)
    own = read_json(source / ADAPTER_CONFIG).get("r", 0) if isinstance(source, Path) and is_adapter(source) else 0
    needed = max(int(own), config.lora.r if config.lora else 0)
    if needed > RANKS[-1]:
        raise ConfigError(f"the adapter's rank is {needed}; vLLM takes at most {RANKS[-1]}: lower model.lora.r")
    return next(rank for rank in (0, *RANKS) if rank >= needed)


def engine_arguments(base: str, rank: int, max_length: int, config: ModelConfig, *, cpu: bool) -> dict[str, Any]:
    """The engine's settings, named as in its constructor and, with dashes, in `vllm serve`."""
    chosen = config.vllm
    cache = chosen.cache_gib or (CPU_CACHE_GIB if cpu else None)
    arguments: dict[str, Any] = {
        "model": base,
        "dtype": config.dtype,
        "max_model_len": max_length,
        "max_num_seqs": chosen.max_sequences,
        "tensor_parallel_size": chosen.tensor_parallel,
        "gpu_memory_utilization": chosen.memory_share,
        "enable_prefix_caching": chosen.prefix_caching,
        "enforce_eager": chosen.eager,
        "load_format": "safetensors",
        "generation_config": "vllm",  # every sampling setting comes from the run's configuration
        "seed": 0,
    }
    if cache is not None:
        arguments["kv_cache_memory_bytes"] = int(cache * 2**30)
    if rank:
        arguments |= {"enable_lora": True, "max_lora_rank": rank, "max_loras": 1, "max_cpu_loras": 2}
    return arguments
