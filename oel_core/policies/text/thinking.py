"""Finds the end of the thinking before an answer by token ids, so that an answer may quote the markers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from oel_core.text import thinking


@dataclass(frozen=True)
class Thinking:
    """The thinking markers of a tokenizer."""

    opens: int
    ends: int
    marks: tuple[str, str]
    """The markers as text."""

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> "Thinking | None":
        """None for a tokenizer without such a pair of single tokens: its model has no thinking."""
        ids = {token.content: number for number, token in tokenizer.added_tokens_decoder.items()}
        for opens, ends in thinking.PAIRS:
            if opens in ids and ends in ids:
                return cls(ids[opens], ids[ends], (opens, ends))
        return None

    def begun(self, prompt: Sequence[int]) -> bool:
        """Whether the prompt ends within thinking. Only a template writes these ids."""
        last = next((token for token in reversed(prompt) if token in (self.opens, self.ends)), None)
        return last == self.opens

    def answer_at(self, prompt: Sequence[int], response: Sequence[int], blank: Callable[[int], bool]) -> int:
        """Index of the response's first id after the thinking; its length if the thinking never ended.

        Args:
            prompt: token ids.
            response: token ids.
            blank: whether an id is white space, which may precede the thinking.

        Thinking begins in the prompt or at the start of the response and ends at the first end marker; later markers
        belong to the answer.
        """
        first = next((token for token in response if token == self.opens or not blank(token)), None)
        if not (self.begun(prompt) or first == self.opens):
            return 0
        return list(response).index(self.ends) + 1 if self.ends in response else len(response)

    def answer_in(self, prompt: Sequence[int], response: str) -> str:
        """As `answer_at`, for a response given as text."""
        return thinking.answer_in(response, begun=self.begun(prompt), pairs=[self.marks])
