"""A policy that runs a Hugging Face model in this process."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

from transformers import PreTrainedTokenizerBase

from oel_core.config.run import ModelConfig
from oel_core.config.sampling import Sampling
from oel_core.errors import PolicyError
from oel_core.models.adapters import merge_lora
from oel_core.models.loading import load_model
from oel_core.policies.base import Completion, Request, Watch
from oel_core.policies.hf.constraint import Constraint, Constraints
from oel_core.policies.hf.decoding import sample_responses
from oel_core.policies.hf.prefix_cache import PREFIX_DIVISOR, PrefillCache, PrefixCache, default_capacity
from oel_core.policies.text.chat import Chat, checkpoint_name, end_tokens


def stop_token_ids(model: Any, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Every id that ends a response of a loaded model. Raises as `chat.end_tokens`."""
    return end_tokens(model.generation_config, model.config, tokenizer)


class TransformersPolicy:
    """Batched generation with left padding; each request is sampled with its own seed.

    A float32 adapter is merged into the weights for speed; a bfloat16 adapter is not, because its small updates would
    be rounded away.
    """

    reproducible = True

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase, config: ModelConfig, name: str) -> None:
        """`name` is used in records. Raises PolicyError without a chat template or an end token."""
        self.name = name
        self.batch_size = config.batch_size
        self.closed = False
        positions = getattr(model.config, "max_position_embeddings", None)
        self._model = model
        self._capacity = default_capacity(model) if config.prefix_cache_tokens is None else config.prefix_cache_tokens
        self._held = PrefillCache(PrefixCache(self._capacity // PREFIX_DIVISOR))
        self.chat = Chat.build(tokenizer, stop_token_ids(model, tokenizer), positions, config, name)
        self._constraints: Constraints | None = None

    @classmethod
    def load(cls, path: str, config: ModelConfig) -> Self:
        """The policy of a checkpoint folder, a hub id or `seed-lm`. Raises as `models.load_model`."""
        model, tokenizer = load_model(path, config)
        if config.dtype == "float32":
            model = merge_lora(model)
        return cls(model, tokenizer, config, checkpoint_name(path))

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Completions in the order of the requests, `batch_size` of them at a time.

        Raises:
            PromptTooLongError: some prompts leave no room for `sampling.max_tokens`; nothing was generated.
            PolicyError: the policy was closed, or the model's logits are not finite.
            PolicyError, ConfigError: as `Constraints`, if a request has a shape.
        """
        return self.generate_with(self._held, requests, sampling)

    def session(self) -> "Session":
        """See `SessionPolicy.session`."""
        return Session(self, PrefillCache(self._held.prefixes, PrefixCache(self._capacity)))

    def generate_watched(self, requests: Sequence[Request], sampling: Sampling, watch: Watch) -> list[Completion]:
        """See `WatchedPolicy.generate_watched`. Raises as `generate`."""
        return self.generate_with(self._held, requests, sampling, watch)

    def generate_with(
        self,
        held: PrefillCache,
        requests: Sequence[Request],
        sampling: Sampling,
        watch: Watch | None = None,
    ) -> list[Completion]:
        """As `generate`, starting from cached keys and values of this policy. Raises as `generate`."""
        if self.closed:
            raise PolicyError(f"{self.name} was closed: load it again")
        prompts = [self.chat.prompt_ids(request.messages) for request in requests]
        self.chat.check_lengths(prompts, sampling.max_tokens)
        completions: list[Completion] = []
        for start in range(0, len(requests), self.batch_size):
            part = slice(start, start + self.batch_size)
            seeds = [request.seed for request in requests[part]]
            constraint = self._constraint([request.shape for request in requests[part]], prompts[part])
            pad = self.chat.tokenizer.pad_token_id or 0
            seen = None if watch is None else partial(_from, start, watch)
            responses = sample_responses(
                self._model, prompts[part], seeds, sampling, self.chat.stops, pad, held, seen, constraint
            )
            completions += map(self.chat.completion, prompts[part], responses)
        return completions

    def _constraint(self, shapes: Sequence[str | None], prompts: Sequence[Sequence[int]]) -> Constraint | None:
        if not any(shape is not None for shape in shapes):
            return None
        self.chat.check_unthinking(prompts)
        if self._constraints is None:
            width = len(self._model.get_output_embeddings().weight)
            self._constraints = Constraints(self.chat.tokenizer, self.chat.stops, width)
        return self._constraints.begin(shapes)

    def count_tokens(self, text: str) -> int:
        """Number of tokens of a text, without chat markup."""
        return len(self.chat.encode(text))

    def close(self) -> None:
        """Releases the weights and the KV cache."""
        self.closed = True
        self._model, self._held = None, PrefillCache()


def _from(start: int, watch: Watch, rows: list[int], tokens: list[int]) -> list[bool]:
    """Calls `watch` for rows of a part that begins at request `start`."""
    return watch([start + row for row in rows], tokens)


@dataclass(frozen=True)
class Session:
    """A `SessionPolicy.session` of a `TransformersPolicy`."""

    policy: TransformersPolicy
    held: PrefillCache

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """As `TransformersPolicy.generate`."""
        return self.policy.generate_with(self.held, requests, sampling)
