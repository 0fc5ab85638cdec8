"""Shared fakes: an environment without a game engine, and a Qwen3 model with a few thousand random weights."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from oel_core.envs.base import HIDDEN_RULES, LEARN_RULES, EnvSpec, Step
from oel_core.errors import EnvironmentError_

CHATML = (
    "{%- for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{%- if enable_thinking is defined and not enable_thinking %}{{ '<think></think>' }}{%- endif %}{%- endif %}"
)
CORRIDOR = ("corridor", "tests.fakes:CorridorEnv")
"""Name and place of the corridor, as `envs.REGISTRY` lists it."""
PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"


class CorridorEnv:
    """A row of cells with the goal at one end and a pit at the other; which is where, and the length, is the seed's.

    Options: `size` (cells, 3 to 5 by seed when absent), `fail` ("start" or "step": raise EnvironmentError_ there for
    odd seeds), `pad` (characters added to every observation of odd seeds, to make prompts too long).
    """

    instructions = HIDDEN_RULES
    intro = "You stand in a corridor. Your actions are [left] and [right]."
    extraction_task = LEARN_RULES

    def __init__(self, spec: EnvSpec, seed: int) -> None:
        options: dict[str, Any] = dict(spec.options)
        self._size = int(options.get("size", 3 + seed % 3))
        self._goal = self._size - 1 if seed // 3 % 2 else 0
        self._at = 1
        self._fail = options.get("fail") if seed % 2 else None
        self._pad = "." * int(options.get("pad", 0)) if seed % 2 else ""
        self.layout = f"corridor-{self._size}-{self._goal}"
        self.closed = False

    def _see(self) -> str:
        cells = ["@" if cell == self._at else "_" for cell in range(self._size)]
        return "".join(cells) + self._pad

    @property
    def _ended(self) -> bool:
        return self._at in (0, self._size - 1)

    def start(self) -> str:
        if self._fail == "start":
            raise EnvironmentError_("the corridor is closed")
        return self._see()

    def parse(self, response: str) -> str | None:
        found = max(("left", "right"), key=lambda action: response.rfind(f"[{action}]"))
        return found if f"[{found}]" in response else None

    def step(self, action: str | None) -> Step:
        if self._fail == "step":
            raise EnvironmentError_("the corridor collapsed")
        if self._ended:
            return Step("The corridor is behind you.", 0.0, True)
        if action is not None:
            self._at = min(max(self._at + (1 if action == "right" else -1), 0), self._size - 1)
        return Step(self._see(), 1.0 if self._at == self._goal else 0.0, self._ended)

    def feedback(self, *, truncated: bool) -> str:
        if truncated:
            return "Round limit reached."
        return "You reached the goal." if self._at == self._goal else "You fell into the pit."

    def close(self) -> None:
        self.closed = True


def make_corridor(spec: EnvSpec, seed: int) -> CorridorEnv:
    """A corridor without the registry. With it: `monkeypatch.setitem(envs.REGISTRY, *CORRIDOR)`."""
    return CorridorEnv(spec, seed)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, plus pad, turn start and turn end; a ChatML template that knows `enable_thinking`."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: index for index, character in enumerate([PAD, START, END, *alphabet])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token=PAD, eos_token=END, additional_special_tokens=[START]
    )
    tokenizer.chat_template = CHATML
    return tokenizer


TINY_SIZES = {
    "vocab_size": 259,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}


def tiny_model(seed: int = 0) -> Qwen3ForCausalLM:
    """A random Qwen3, 2 layers of 32, float32. Weights are large so that no two logits are close to equal."""
    config = Qwen3Config(
        **TINY_SIZES,
        head_dim=16,
        max_position_embeddings=4096,
        initializer_range=0.3,
        tie_word_embeddings=False,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(config)
    model.generation_config.eos_token_id = [2, 0]
    return model.eval()


def tiny_model_folder(folder: Path, seed: int = 0) -> Path:
    """`folder/tiny`: a full checkpoint of `tiny_model` with `byte_tokenizer`."""
    target = folder / "tiny"
    tiny_model(seed).save_pretrained(target)
    byte_tokenizer().save_pretrained(target)
    return target
