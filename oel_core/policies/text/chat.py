"""Converts chat prompts to token ids and responses to text, for all policies with a tokenizer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from transformers import AutoConfig, GenerationConfig, PreTrainedTokenizerBase

from oel_core.config.run import ModelConfig
from oel_core.errors import ConfigError, PolicyError, PromptTooLongError
from oel_core.models.checkpoints import adapter_base, is_adapter, model_digest, resolve_model
from oel_core.models.loading import load_tokenizer
from oel_core.policies.base import Completion
from oel_core.policies.text.rendering import render
from oel_core.policies.text.slots import Part
from oel_core.policies.text.structure import encoder_for
from oel_core.policies.text.thinking import Thinking
from oel_core.prompts.play import first_messages
from oel_core.types import Message, StopReason


def prompt_ids(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, thinking: bool) -> list[int]:
    """The token ids of a chat prompt with the generation prompt; `thinking` is passed to templates that support it.

    Control tokens within a message's text are encoded as plain text: only the template writes structure.

    Raises:
        PolicyError: the template rejects the conversation, or leaves out a message.
    """
    return encoder_for(tokenizer).encode(render(tokenizer, messages, thinking=thinking))


def check_template(tokenizer: PreTrainedTokenizerBase, config: ModelConfig, name: str) -> None:
    """Raises PolicyError if there is no chat template, or it rejects the form of an episode's first prompt."""
    if tokenizer.chat_template is None:
        raise PolicyError(f"{name} has no chat template: only chat models can play")
    render(tokenizer, first_messages("You walk.", "A board."), thinking=config.thinking)


def end_tokens(generation: Any, config: Any, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """All ids that end a response.

    Args:
        generation: the model's generation configuration, or None.
        config: the model's configuration. Its `eos_token_id` is used if the generation configuration has none.
        tokenizer: its end token is always included.

    Raises:
        PolicyError: there is none, so no response could end.
    """
    own = config.get_text_config() if hasattr(config, "get_text_config") else config
    named = (getattr(source, "eos_token_id", None) for source in (generation, config, own))
    configured = next((ids for ids in named if ids is not None), ())
    ids = [configured] if isinstance(configured, int) else list(configured)
    found = frozenset(int(token) for token in (*ids, tokenizer.eos_token_id) if token is not None)
    if not found:
        raise PolicyError("the model names no end token: set eos_token_id in its generation_config.json")
    return found


def base_of(path: str) -> str:
    """The base model of a checkpoint, which may be the checkpoint itself: a folder or a hub id."""
    source = resolve_model(path)
    if isinstance(source, Path) and is_adapter(source):
        return base_of(adapter_base(source))
    return str(source)


def checkpoint_name(path: str) -> str:
    """Name of a checkpoint's policy in records: its folder's name or hub id, and 12 digits of its digest."""
    label = path if isinstance(resolve_model(path), str) or not Path(path).is_dir() else Path(path).resolve().name
    return f"{label}@{model_digest(path)[:12]}"


@dataclass(frozen=True)
class Chat:
    """A model's chat format: its tokenizer, template, end tokens and maximum length."""

    tokenizer: PreTrainedTokenizerBase
    stops: frozenset[int]
    """Stop token ids."""
    thinking: bool
    max_length: int
    """Maximum tokens of prompt and response together."""
    limit: str
    """The setting that `max_length` comes from, for messages."""

    @classmethod
    def build(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        stops: frozenset[int],
        positions: int | None,
        config: ModelConfig,
        name: str,
    ) -> Self:
        """`positions` is the model's own maximum length, None if unknown.

        Raises:
            PolicyError: as `check_template`.
        """
        check_template(tokenizer, config, name)
        own = positions or config.max_length
        limit = "model.max_length" if config.max_length <= own else "the model's own length"
        return cls(tokenizer, stops, config.thinking, min(config.max_length, own), limit)

    @classmethod
    def load(cls, path: str, config: ModelConfig, positions: int | None = None) -> Self:
        """The chat format of a checkpoint, without loading its weights. Raises as `models.load_tokenizer`."""
        tokenizer, base = load_tokenizer(path), base_of(path)
        own = AutoConfig.from_pretrained(base, trust_remote_code=False)
        try:
            generation = GenerationConfig.from_pretrained(base)
        except OSError:  # a model without that file
            generation = None
        if positions is None:
            positions = getattr(own.get_text_config(), "max_position_embeddings", None)
        return cls.build(tokenizer, end_tokens(generation, own, tokenizer), positions, config, path)

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """The prompt's token ids with the generation prompt."""
        return prompt_ids(self.tokenizer, messages, thinking=self.thinking)

    def check_lengths(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> None:
        """Raises PromptTooLongError for all prompts that leave no room for `max_tokens` more."""
        problems = {
            position: f"a prompt of {len(prompt)} tokens and a response of up to {max_tokens} are "
            f"{len(prompt) + max_tokens - self.max_length} tokens over {self.limit} of {self.max_length}: "
            "raise it, or lower max_tokens, the knowledge cap or play.history_turns"
            for position, prompt in enumerate(prompts)
            if len(prompt) + max_tokens > self.max_length
        }
        if problems:
            raise PromptTooLongError(problems)

    def check_unthinking(self, prompts: Sequence[Sequence[int]]) -> None:
        """Raises ConfigError where a prompt ends within thinking: a constrained response is all answer."""
        thinking = Thinking.of(self.tokenizer)
        if thinking is not None and any(map(thinking.begun, prompts)):
            raise ConfigError(
                "extract.constrained: this model's chat template begins every response with thinking, which has no "
                "shape: set it to off, or use a model that can answer at once"
            )

    def completion(self, prompt: Sequence[int], response: Sequence[int]) -> Completion:
        """The record of a sampled response; an empty one counts as ended."""
        ended = not response or response[-1] in self.stops
        return Completion(
            text=self.text(response),
            prompt_ids=tuple(prompt),
            response_ids=tuple(response),
            stop_reason=StopReason.EOS if ended else StopReason.LENGTH,
            answer=self.answer(prompt, response),
        )

    def answer(self, prompt: Sequence[int], response: Sequence[int]) -> str | None:
        """The text after the thinking, found by token ids; None for a model without thinking tokens."""
        thinking = Thinking.of(self.tokenizer)
        if thinking is None:
            return None
        return self.text(response[thinking.answer_at(prompt, response, lambda token: not self.text([token]).strip()) :])

    def answer_in(self, prompt: Sequence[int], text: str) -> str | None:
        """As `answer`, for a response given as text."""
        thinking = Thinking.of(self.tokenizer)
        return None if thinking is None else thinking.answer_in(prompt, text)

    def text(self, ids: Sequence[int]) -> str:
        """Decoded ids, without special tokens."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def encode(self, text: str) -> list[int]:
        """The ids of a text without chat markup, as within a prompt."""
        return encoder_for(self.tokenizer).encode([Part(text, own=False)])
