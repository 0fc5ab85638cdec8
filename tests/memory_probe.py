"""Measures the peak memory of one stage in this process and prints it beside the estimate, as JSON.

    python -m tests.memory_probe make|generate|distill deep|"wide vocabulary" FOLDER

`make` writes the random model first, in a process of its own, so that its memory is not counted.
"""

import json
import re
import sys
from pathlib import Path

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from oel_core.config.run import OelConfig
from oel_core.config.sampling import Sampling
from oel_core.distillation.training import trainer
from oel_core.distillation.training.run import distill
from oel_core.models.architectures import read_architecture
from oel_core.policies.base import Request
from oel_core.policies.hf.policy import TransformersPolicy
from oel_core.preflight.estimate import generation_memory, training_memory
from oel_core.types import Knowledge, Message, PartialRollout
from tests.builders import item
from tests.fakes import byte_tokenizer

SHAPES = {
    "deep": {"vocab_size": 512, "hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8},
    "wide vocabulary": {"vocab_size": 32000, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2},
}
PROMPT, RESPONSE = 512, 64


def config_of(folder: Path) -> OelConfig:
    return OelConfig.model_validate(
        {
            "model": {"path": str(folder), "device": "cpu", "batch_size": 16, "max_length": 2048},
            "environment": {"max_turns": 1},
            "distill": {
                "steps": 1,
                "episodes_per_step": 16,
                "micro_batch_tokens": 8 * (PROMPT + RESPONSE),
                "max_response_tokens": RESPONSE,
                "learning_rate": 1e-6,
            },
        }
    )


def make_model(folder: Path, shape: str) -> None:
    """A random model that never ends a response by itself."""
    model = Qwen3ForCausalLM(
        Qwen3Config(**SHAPES[shape], num_attention_heads=8, num_key_value_heads=4, head_dim=32, eos_token_id=2)
    )
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)


def _prompt(number: int) -> PartialRollout:
    """Prompts that part at once: what they begin with alike would be read, and kept, only once."""
    message = Message(role="user", content=chr(ord("a") + number) * (PROMPT - 40))
    return PartialRollout(trajectory_id=f"t{number}", turn=0, messages=(message,))


def peak() -> int:
    """Bytes. Not `ru_maxrss`, which a process inherits from the one that started it."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)[1]) * 1024  # type: ignore[index]


def main(stage: str, shape: str, folder: Path) -> None:
    torch.set_num_threads(1)
    if stage == "make":
        make_model(folder, shape)
        return
    assert trainer, "imported before the baseline is taken"
    config = config_of(folder)
    architecture = read_architecture(json.loads((folder / "config.json").read_text()))
    assert architecture is not None
    messages = (Message(role="user", content="x" * (PROMPT - 40)),)
    before = peak()
    if stage == "generate":
        policy = TransformersPolicy.load(str(folder), config.model)
        policy.generate([Request(messages, seed) for seed in range(16)], Sampling(max_tokens=RESPONSE))
        expected = generation_memory(config, architecture, PROMPT, RESPONSE, 16)
    else:
        prompts = [_prompt(number) for number in range(16)]
        known = item("- EXPERIENCE ITEM: x")
        knowledge = Knowledge(replica=0, round=1, items=(known,), text=known.text, tokens=20)
        workdir = folder / "work"
        workdir.mkdir(exist_ok=True)
        distill(
            model=config.model,
            start=str(folder),
            steps=[prompts],
            knowledge=[knowledge],
            config=config.distill,
            workdir=workdir,
            seed=0,
        )
        expected = training_memory(config, architecture)
    print(json.dumps([peak() - before, expected]))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
