"""Where the thinking before an answer ends: found by token ids, so that an answer may quote the markers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from oel_core.text import thinking


@dataclass(frozen=True)
class Thinking:
    """The thinking markers of one tokenizer."""

    opens: int
    ends: int
    marks: tuple[str, str]
    """The same as text."""

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> "Thinking | None":
        """None for a tokenizer that has no pair of them as single tokens: its model does not think apart."""
        ids = {token.content: number for number, token in tokenizer.added_tokens_decoder.items()}
        for opens, ends in thinking.PAIRS:
            if opens in ids and ends in ids:
                return cls(ids[opens], ids[ends], (opens, ends))
        return None

    def begun(self, prompt: Sequence[int]) -> bool:
        """Whether the prompt ends within thinking. Only a template writes these ids, never a message's text."""
        last = next((token for token in reversed(prompt) if token in (self.opens, self.ends)), None)
        return last == self.opens

    def answer_at(self, prompt: Sequence[int], response: Sequence[int], blank: Callable[[int], bool]) -> int:
        """Position of the response's first id after the thinking; its length where the thinking never ended.

        Args:
            prompt: token ids.
            response: token ids.
            blank: whether an id is white space, which may stand before the thinking.

        Thinking begins in the prompt or with the response, and its first end is its end: whatever comes later of
        these ids is the answer's own.
        """
        first = next((token for token in response if token == self.opens or not blank(token)), None)
        if not (self.begun(prompt) or first == self.opens):
            return 0
        return list(response).index(self.ends) + 1 if self.ends in response else len(response)

    def answer_in(self, prompt: Sequence[int], response: str) -> str:
        """The same for a response of which only the text is known."""
        return thinking.answer_in(response, begun=self.begun(prompt), pairs=[self.marks])
