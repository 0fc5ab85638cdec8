"""Validates recorded episodes against the model that will be trained on them, when they are read from the inbox."""

from functools import cached_property

from oel_core.config.run import OelConfig
from oel_core.errors import PolicyError
from oel_core.policies.text.chat import Chat
from oel_core.prompts.injection import inject
from oel_core.runs.jsonl import LineError
from oel_core.types import Message, Trajectory

_WORD = "x"
"""Placeholder for the knowledge text, whose tokens are counted by its cap."""


class Admission:
    """The requirements of one model. Its tokenizer is loaded lazily."""

    def __init__(self, config: OelConfig, start: str) -> None:
        """`start`: the checkpoint that the round starts from."""
        self._config, self._start = config, start

    @cached_property
    def _chat(self) -> Chat:
        return Chat.load(self._start, self._config.model)

    def require(self, episode: Trajectory) -> None:
        """Raises LineError when no turn of the episode fits the context, or its tokens are not the model's."""
        lengths = [self._tokens(number, turn.messages) for number, turn in enumerate(episode.turns)]
        response, cap = self._config.distill.max_response_tokens, self._config.injected_cap
        if min(lengths) + cap + response > self._chat.max_length:
            raise LineError(
                "turns",
                f"no prompt fits the context: with knowledge of up to {cap} and a response of up to {response} tokens "
                f"each is longer than {self._chat.limit} of {self._chat.max_length}",
            )
        size = len(self._chat.tokenizer)
        for number, turn in enumerate(episode.turns):
            if self._config.distill.regime == "sft" and max(turn.response_ids, default=0) >= size:
                raise LineError(
                    f"turns.{number}.response_ids", f"a token id that the model does not have ({size} tokens)"
                )

    def _tokens(self, number: int, messages: tuple[Message, ...]) -> int:
        """Length of the teacher's prompt, the longer of both, without the knowledge text."""
        try:
            return len(self._chat.prompt_ids(inject(messages, _WORD, self._config.knowledge.injection)))
        except PolicyError as error:
            raise LineError(f"turns.{number}.messages", str(error)) from error
