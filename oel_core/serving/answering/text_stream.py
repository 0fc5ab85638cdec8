"""Incremental detokenisation of a response: separates thinking, finds stop strings, holds back tool calls."""

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from oel_core.policies.text.chat import Chat
from oel_core.policies.text.thinking import Thinking
from oel_core.serving.answering.tool_calls import plain_length


class TextStream:
    """The text of one response. With a slow tokenizer no text is streamed before the end."""

    def __init__(self, chat: Chat, prompt: Sequence[int], stop: Sequence[str], *, tools: bool) -> None:
        """`tools`: text that may become a tool call is held back."""
        backend = getattr(chat.tokenizer, "backend_tokenizer", None)
        self._backend = backend if isinstance(backend, Tokenizer) else None
        self._decoder = DecodeStream(skip_special_tokens=True)
        self._thinking = Thinking.of(chat.tokenizer)
        self._inside = self._thinking is not None and self._thinking.begun(prompt)
        self._stop, self._tools = tuple(stop), tools
        self._answer, self._sent = "", 0
        self.stopped = False
        """A stop string was generated."""

    def add(self, token: int) -> tuple[str, str]:
        """What a token adds: thinking, and text of the answer that can be sent."""
        if self._thinking is not None and not self._answer.strip() and token == self._thinking.opens:
            self._inside = True
            return "", ""
        if self._thinking is not None and self._inside and token == self._thinking.ends:
            self._inside = False
            return "", ""
        text = (self._decoder.step(self._backend, token) if self._backend is not None else None) or ""
        if self._inside:
            return text, ""
        self._answer += text
        return "", self._sendable()

    def _sendable(self) -> str:
        cut = stop_at(self._answer, self._stop)
        self.stopped = self.stopped or cut is not None
        end = len(self._answer) if cut is None else cut
        if cut is None:
            end -= max((_overlap(self._answer, each) for each in self._stop), default=0)
        if self._tools:
            end = min(end, plain_length(self._answer))
        new = self._answer[self._sent : end]
        self._sent += len(new)
        return new

    @property
    def sent(self) -> str:
        """The text of the answer sent so far."""
        return self._answer[: self._sent]


def stop_at(text: str, stop: Sequence[str]) -> int | None:
    """Index of the first stop string; None if there is none."""
    return min((at for each in stop if (at := text.find(each)) >= 0), default=None)


def _overlap(text: str, stop: str) -> int:
    """Length of the end of the text that is a proper prefix of the stop string."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
