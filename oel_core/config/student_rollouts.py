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
        if distill.rollouts != "transformers" and count > 1:
            raise ConfigError(
                f"distill.rollouts is {distill.rollouts} and distill.{name} is {count}: several processes draw their "
                f"own responses. Set distill.{name}=1, or distill.rollouts=transformers"
            )
    if distill.rollouts == "openai" and model.lora is None:
        raise ConfigError(
            "distill.rollouts is openai, but a server takes over adapters only, not whole models: set model.lora, or "
            "distill.rollouts=vllm"
        )
    if distill.rollouts == "openai" and model.openai.base_url is None and not model.openai.managed:
        raise ConfigError("distill.rollouts is openai: set model.openai.base_url, or model.openai.managed=true")
    return model.model_copy(update={"backend": distill.rollouts})
