"""KL of a model from the base model on the model's own responses: how far rounds have moved it."""

from collections.abc import Iterable
from functools import cache

import torch

from oel_core.config.run import ModelConfig, OelConfig
from oel_core.distillation.data.dataset import Sample
from oel_core.distillation.forward.student import Student
from oel_core.distillation.objectives.losses import Objective, truncated_reverse_kl
from oel_core.distillation.teachers.frozen import FrozenCopy
from oel_core.distillation.training.rollouts import Rollout
from oel_core.distillation.training.update import measure
from oel_core.models.adapters import merge_lora
from oel_core.models.loading import load_model
from oel_core.policies.text.chat import prompt_ids
from oel_core.types import Trajectory


def base_kl(config: OelConfig, model: str, episodes: Iterable[Trajectory]) -> float:
    """Mean KL(model || base model) over the response tokens of the model's episodes without knowledge, nats.

    Over the whole vocabulary at temperature 1. 0 for the base model itself.
    """
    loaded, tokenizer = load_model(model, config.model)
    turns = [(f"{episode.id}/{place}", turn) for episode in episodes for place, turn in enumerate(episode.turns)]
    rollouts = []
    for index, (name, turn) in enumerate(turns):
        prompt = prompt_ids(tokenizer, turn.messages, thinking=config.model.thinking)
        sample = Sample(name, index, prompt, prompt, knowledge_index=0, replica=0, seed=0)
        rollouts.append(Rollout(sample, list(turn.response_ids), truncated=False))
    student = Student(merge_lora(loaded), config.distill)
    base = FrozenCopy(_base(config.model), getattr(torch, config.model.dtype), {}, config.distill)
    objective = Objective("all", truncated_reverse_kl, top_k=1, temperature=1.0, clip=None)
    return float(measure(student, base, rollouts, objective).loss)


@cache
def _base(config: ModelConfig) -> torch.nn.Module:
    loaded: torch.nn.Module = merge_lora(load_model(config.path, config)[0])
    return loaded
