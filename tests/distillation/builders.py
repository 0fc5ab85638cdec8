"""A distillation of seconds: a tiny random model whose next tokens knowledge in the context changes."""

from pathlib import Path
from typing import Any

from oel_core.config.run import DistillConfig, LoraConfig, ModelConfig
from oel_core.prompts.play import first_messages
from oel_core.types import Knowledge, PartialRollout

KNOWLEDGE = ("- H is a hole", "- the goal is G")


def knowledge(text: str, replica: int = 0) -> Knowledge:
    """A knowledge file without items."""
    return Knowledge(replica=replica, round=1, items=(), text=text, tokens=len(text))


def prompts(steps: int, samples: int) -> list[list[PartialRollout]]:
    """Prompts of several lengths, some of them equal."""
    return [
        [
            PartialRollout(
                trajectory_id=f"s{step}e{index}", turn=0, messages=first_messages("You walk.", "x" * (index % 5 + 1))
            )
            for index in range(samples)
        ]
        for step in range(steps)
    ]


def arguments(start: Path, workdir: Path, *, steps: int = 4, samples: int = 6, **changes: Any) -> dict[str, Any]:
    """Arguments of `distill`; `lora` goes to the model's settings, other changes to the distillation's."""
    lora = changes.pop("lora", None)
    settings = {
        "steps": steps,
        "learning_rate": 1e-3,
        "objective": "reverse_kl_top_k",
        "top_k": 20,
        "temperature": 1.0,
        "max_response_tokens": 6,
        "micro_batch_tokens": 400,
        "checkpoint_every": 2,
    }
    return {
        "model": ModelConfig(path=str(start), device="cpu", lora=LoraConfig(**lora) if lora else None),
        "start": str(start),
        "steps": prompts(steps, samples),
        "knowledge": [knowledge(text, replica) for replica, text in enumerate(KNOWLEDGE)],
        "config": DistillConfig(**{**settings, **changes}),
        "workdir": workdir,
        "seed": 5,
    }
