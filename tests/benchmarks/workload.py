"""What every distillation benchmark runs on: samples of random tokens, and a model, by default of random weights."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

FIRST_WORD = 3
"""Token ids below have a meaning: padding, end of text, unknown."""
PAD, END, UNKNOWN = range(FIRST_WORD)


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a Qwen3 model, tied embeddings. The proportions are those of Qwen3-1.7B."""

    hidden: int = 512
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 128
    intermediate: int = 1536
    vocabulary: int = 32_000
    initial_std: float = 0.05
    """Standard deviation of the weights: wide enough that the next-token distributions are not all but uniform."""

    @property
    def block_weights(self) -> int:
        """Weights of all layers' matrices: what a token is multiplied with, the head aside."""
        attention = self.hidden * self.head_dim * 2 * (self.heads + self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.intermediate)

    @property
    def head_weights(self) -> int:
        """Weights of the vocabulary projection, which the embeddings share."""
        return self.hidden * self.vocabulary


@dataclass(frozen=True)
class Workload:
    """One optimiser step's samples. All lengths are in tokens and the same for each sample."""

    shape: ModelShape = ModelShape()
    samples: int = 32
    prompt: int = 160
    response: int = 64
    knowledge: int = 2_048
    files: int = 4
    """Knowledge files; the samples draw them in turn."""
    top_k: int = 256
    peer_micro_batch: int = 8
    """Samples in one forward of the peer's, its `per_device_train_batch_size`; 8 is its default."""
    train_head: bool = True
    """False freezes the embeddings that the head shares: it then has neither gradient nor optimiser state."""
    device: str = "cpu"
    mixed: bool = False
    """float32 weights, bfloat16 maths."""
    model: str = ""
    """Folder of a checkpoint whose weights are used; empty: random weights of `shape`."""
    dtype: str = "float32"
    """Of the weights."""
    temperature: float = 0.7
    seed: int = 0

    @property
    def own_length(self) -> int:
        """S: prompt and response of a sample."""
        return self.prompt + self.response

    @property
    def response_tokens(self) -> int:
        return self.samples * self.response


@dataclass(frozen=True)
class Text:
    """One sample: what the student reads, what it answered, and which knowledge the teacher reads first."""

    prompt: list[int]
    response: list[int]
    file: int


@dataclass(frozen=True)
class Corpus:
    """The samples of a workload and their knowledge files, as token ids."""

    texts: tuple[Text, ...]
    knowledge: tuple[list[int], ...]


def draw_corpus(workload: Workload) -> Corpus:
    """Random tokens; the same workload gives the same tokens."""
    source = random.Random(workload.seed)

    def words(count: int) -> list[int]:
        return source.choices(range(FIRST_WORD, workload.shape.vocabulary), k=count)

    knowledge = tuple(words(workload.knowledge) for _ in range(workload.files))
    texts = tuple(
        Text(words(workload.prompt), words(workload.response), index % workload.files)
        for index in range(workload.samples)
    )
    return Corpus(texts, knowledge)


def save_workload_model(workload: Workload, folder: Path) -> None:
    """Puts the workload's checkpoint into `folder`: links to that of `workload.model`, or random Qwen3 weights."""
    if workload.model:
        for file in Path(workload.model).resolve().iterdir():
            (folder / file.name).symlink_to(file)
        return
    from transformers import Qwen3Config, Qwen3ForCausalLM

    shape = workload.shape
    config = Qwen3Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=workload.knowledge + workload.own_length + 1,
        initializer_range=shape.initial_std,
        tie_word_embeddings=True,
        pad_token_id=PAD,
        bos_token_id=None,
        eos_token_id=END,
    )
    with torch.random.fork_rng():
        torch.manual_seed(workload.seed)
        Qwen3ForCausalLM(config).save_pretrained(folder)


def load_workload_model(folder: Path, workload: Workload) -> Any:
    """The model that `save_workload_model` put there, on the workload's device."""
    from transformers import AutoModelForCausalLM

    dtype = getattr(torch, workload.dtype)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa")
    return model.to(workload.device)


def pretrained_workload(model: str, **values: Any) -> Workload:
    """A workload on a checkpoint's own weights; tokens are drawn from its vocabulary. `values` as of `Workload`."""
    from transformers import AutoConfig

    sizes = AutoConfig.from_pretrained(model)
    shape = ModelShape(
        sizes.hidden_size,
        sizes.num_hidden_layers,
        sizes.num_attention_heads,
        sizes.num_key_value_heads,
        sizes.hidden_size // sizes.num_attention_heads,
        sizes.intermediate_size,
        sizes.vocab_size,
    )
    return Workload(shape=shape, model=model, **values)


def as_text(ids: Sequence[int]) -> str:
    """Token ids as the words that `word_tokenizer` turns back into the same ids."""
    return " ".join(f"t{token}" for token in ids)


def word_tokenizer(vocabulary: int) -> Any:
    """A tokenizer of one word a token, so that a peer that wants text reads exactly the tokens drawn."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": PAD, "<end>": END, "<unknown>": UNKNOWN}
    words |= {f"t{token}": token for token in range(FIRST_WORD, vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unknown>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>")
