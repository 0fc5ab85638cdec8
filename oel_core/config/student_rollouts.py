"""The policy configuration of a distillation's rollouts."""

from typing import TYPE_CHECKING

from oel_core.errors import ConfigError

if TYPE_CHECKING:
    from oel_core.config.run import DistillConfig, ModelConfig


def rollout_model(model: "ModelConfig", distill: "DistillConfig") -> "ModelConfig":
    """The model's settings with the backend that `distill.rollouts` names.

    Raises:
        ConfigError: an engine with several processes, a server that would have to load whole models, or no server.
    """
    for name, count in (("processes", distill.processes), ("nodes", distill.nodes)):
        if count > 1:
            _require_own_devices(model, distill, f"distill.{name} is {count}")
    if distill.rollouts == "openai" and not model.makes_adapters:
        raise ConfigError(
            "distill.rollouts is openai, but a server takes over adapters only, not whole models: set model.lora "
            "without merge, or distill.rollouts=vllm"
        )
    if distill.rollouts == "openai" and model.openai.base_url is None and not model.openai.managed:
        raise ConfigError("distill.rollouts is openai: set model.openai.base_url, or model.openai.managed=true")
    return model.model_copy(update={"backend": distill.rollouts})


def _require_own_devices(model: "ModelConfig", distill: "DistillConfig", several: str) -> None:
    """With several processes, all of which train: raises ConfigError for an engine on the device of one of them."""
    if distill.rollouts == "vllm" or (distill.rollouts == "openai" and model.openai.managed):
        raise ConfigError(
            f"{several}, and distill.rollouts would start an engine on the device of a training process: start a "
            "server on other devices and set distill.rollouts=openai with model.openai.base_url, or set "
            "distill.rollouts=transformers"
        )
