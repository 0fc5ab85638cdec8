"""A policy that runs a Hugging Face model in this process."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from transformers import PreTrainedTokenizerBase

from oel_core.checkpoints import resolve_model
from oel_core.config import ModelConfig
from oel_core.errors import PolicyError, PromptTooLongError
from oel_core.models import load_model, merge_lora, model_digest
from oel_core.policies.base import Completion, Request, Sampling
from oel_core.policies.decoding import sample_responses
from oel_core.types import StopReason


def stop_token_ids(model: Any, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Every id that ends a response: the generation configuration's and the tokenizer's.

    Raises:
        PolicyError: there is none, so no response could ever end.
    """
    configured = getattr(model.generation_config, "eos_token_id", None)
    ids = configured if isinstance(configured, list) else [configured]
    found = frozenset(int(token) for token in (*ids, tokenizer.eos_token_id) if token is not None)
    if not found:
        raise PolicyError("the model names no end token: set eos_token_id in its generation_config.json")
    return found


def prompt_ids(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Any], *, thinking: bool) -> list[int]:
    """The token ids of a chat prompt up to where the assistant starts; `thinking` goes to templates that know it."""
    template = tokenizer.get_chat_template()
    known: dict[str, Any] = {"enable_thinking": thinking} if "enable_thinking" in template else {}
    chat = [{"role": message.role, "content": message.content} for message in messages]
    text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False, **known)
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


class TransformersPolicy:
    """Batched generation with left padding; each request is drawn by its own seed.

    An adapter in float32 is merged into the weights for speed; in bfloat16 it stays beside them, because its small
    steps would be rounded away.
    """

    reproducible = True

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase, config: ModelConfig, name: str) -> None:
        """`name` is what records say. Raises PolicyError without a chat template or an end token."""
        if tokenizer.chat_template is None:
            raise PolicyError(f"{name} has no chat template: only chat models can play")
        self.name = name
        self.batch_size = config.batch_size
        self.closed = False
        self._model, self._tokenizer, self._thinking = model, tokenizer, config.thinking
        self._stops = stop_token_ids(model, tokenizer)
        positions = getattr(model.config, "max_position_embeddings", None) or config.max_length
        self._max_length = min(config.max_length, positions)
        self._limit = "model.max_length" if config.max_length <= positions else "the model's own length"

    @classmethod
    def load(cls, path: str, config: ModelConfig) -> Self:
        """The policy of a checkpoint folder, a hub id or `seed-lm`. Raises as `models.load_model`."""
        model, tokenizer = load_model(path, config)
        if config.dtype == "float32":
            model = merge_lora(model)
        source = resolve_model(path)
        label = path if isinstance(source, str) or not Path(path).is_dir() else Path(path).resolve().name
        return cls(model, tokenizer, config, f"{label}@{model_digest(path)[:12]}")

    def _check_lengths(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> None:
        problems = {
            position: f"a prompt of {len(prompt)} tokens and a response of up to {max_tokens} are "
            f"{len(prompt) + max_tokens - self._max_length} tokens over {self._limit} of {self._max_length}: "
            "raise it, or lower max_tokens, the knowledge cap or play.history_turns"
            for position, prompt in enumerate(prompts)
            if len(prompt) + max_tokens > self._max_length
        }
        if problems:
            raise PromptTooLongError(problems)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Answers in the order of the requests, `batch_size` of them at a time.

        Raises:
            PromptTooLongError: some prompts leave no room for `sampling.max_tokens`; nothing was generated.
            PolicyError: the policy was closed, or the model gives logits that are not finite.
        """
        if self.closed:
            raise PolicyError(f"{self.name} was closed: load it again")
        prompts = [prompt_ids(self._tokenizer, request.messages, thinking=self._thinking) for request in requests]
        self._check_lengths(prompts, sampling.max_tokens)
        completions: list[Completion] = []
        for start in range(0, len(requests), self.batch_size):
            part = slice(start, start + self.batch_size)
            seeds = [request.seed for request in requests[part]]
            pad = self._tokenizer.pad_token_id or 0
            responses = sample_responses(self._model, prompts[part], seeds, sampling, self._stops, pad)
            completions += map(self._completion, prompts[part], responses)
        return completions

    def _completion(self, prompt: Sequence[int], response: Sequence[int]) -> Completion:
        ended = response[-1] in self._stops
        return Completion(
            text=str(
                self._tokenizer.decode(list(response), skip_special_tokens=True, clean_up_tokenization_spaces=False)
            ),
            prompt_ids=tuple(prompt),
            response_ids=tuple(response),
            stop_reason=StopReason.EOS if ended else StopReason.LENGTH,
        )

    def count_tokens(self, text: str) -> int:
        """Tokens of a plain text, without chat markup."""
        return len(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def close(self) -> None:
        """Lets go of the weights."""
        self.closed = True
        self._model = None
