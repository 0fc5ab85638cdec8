"""Loads policies and shares them between stages. `oel_core.plugins.builtin` lists the backends by name."""

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from oel_core.config.run import ModelConfig
from oel_core.config.serving import RunnerConfig
from oel_core.plugins.builtin import POLICIES
from oel_core.policies.base import Policy
from oel_core.policies.replicated.dispatch import Worker

LoadPolicy = Callable[[str, ModelConfig], Policy]
"""Loads the policy of a checkpoint. The same checkpoint is not loaded again. Stages do not close it."""


class LoadedPolicy(Policy, Protocol):
    """A policy that holds resources."""

    closed: bool
    """Whether the policy has been closed."""


_lock = threading.Lock()
_held: dict[tuple[object, ...], LoadedPolicy] = {}
_workers: dict[str, Sequence[Worker]] = {}
"""The workers of the last runner, by its settings."""


def check_backend(config: ModelConfig) -> None:
    """Cheap checks of a backend's requirements: its package is installed, the API key is set.

    Raises:
        PolicyError: vLLM is needed and not installed.
        ConfigError: the environment variable with the API key is not set.
    """
    if config.backend == "vllm" or (config.backend == "openai" and config.openai.managed):
        from oel_core.policies.vllm.policy import check_installed

        check_installed()
    elif config.backend == "openai":
        from oel_core.policies.openai.policy import api_key

        api_key(config)


def check_runner(config: RunnerConfig) -> None:
    """Raises ConfigError if Ray is needed and not installed."""
    if config.use == "ray":
        from oel_core.policies.replicated.ray_workers import check_installed

        check_installed()


def load_policy(path: str, config: ModelConfig) -> Policy:
    """The policy of a checkpoint. The same unchanged checkpoint with the same settings is loaded once and shared.

    Only the last policy is cached, so this module never holds two models in memory. Stages do not close a shared
    policy; `release` does.

    Raises:
        ConfigError: the device is not available, or the server cannot serve this checkpoint.
        ArtifactError, PolicyError: as `load_model`; PolicyError also if vLLM or a server fails.
    """
    from oel_core.models.checkpoints import stamp

    key = (config.model_dump_json(exclude={"path", "lora"}), *stamp(path))
    with _lock:
        held = _held.get(key)
        if held is None or held.closed:
            if held is not None:  # it failed, and may hold more than memory
                held.close()
            _held.clear()
            held = _held[key] = POLICIES.load(config.backend)(path, config)
        return held


def place_policy(path: str, config: ModelConfig, runner: RunnerConfig, load: LoadPolicy = load_policy) -> Policy:
    """The policy of a checkpoint in this process, or a copy in each worker of the runner.

    The workers are kept for other checkpoints until `release`.

    Raises:
        ConfigError, PolicyError: as `start_workers`.
        Exception: as `load`.
    """
    if runner.use == "local":
        return load(path, config)
    from oel_core.policies.replicated.policy import ReplicatedPolicy

    return ReplicatedPolicy(runner_workers(runner), path, config, load)


def runner_workers(runner: RunnerConfig) -> Sequence[Worker]:
    """The workers of a runner on Ray, for policies and for work without one. They are kept until `release`.

    Raises:
        ConfigError, PolicyError: as `start_workers`.
    """
    from oel_core.policies.replicated.ray_workers import start_workers

    key = runner.model_dump_json()
    with _lock:
        if key not in _workers:
            _close_workers()
            _workers[key] = start_workers(runner)
        return _workers[key]


def _close_workers() -> None:
    for worker in (worker for workers in _workers.values() for worker in workers):
        worker.close()
    _workers.clear()


def release() -> None:
    """Closes the cached policy and stops the runner's workers, to free their memory."""
    with _lock:
        _close_workers()
        for policy in _held.values():
            policy.close()
        _held.clear()
