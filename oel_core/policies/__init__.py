"""Loads policies and shares them between stages. `oel_core.plugins.builtin` lists the backends by name."""

import threading
from typing import Protocol

from oel_core.config.run import ModelConfig
from oel_core.plugins.builtin import POLICIES
from oel_core.policies.base import Policy


class LoadedPolicy(Policy, Protocol):
    """A policy that holds resources."""

    closed: bool
    """Whether the policy has been closed."""


_lock = threading.Lock()
_held: dict[tuple[object, ...], LoadedPolicy] = {}


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


def release() -> None:
    """Closes the cached policy, to free its memory."""
    with _lock:
        for policy in _held.values():
            policy.close()
        _held.clear()
