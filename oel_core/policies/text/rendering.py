"""A conversation as the chat template writes it, with what the template wrote kept apart from what it was given.

The template is rendered with a placeholder in place of every text, and the texts are put in afterwards. So no text can
make the template do anything: what is structure is decided before a text is looked at.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from oel_core.errors import PolicyError
from oel_core.policies.text.thinking import PAIRS
from oel_core.types import Message

_FAILURES = (TemplateError, TypeError, ValueError, AttributeError, LookupError, ArithmeticError)
"""What a template can raise: it is a program that came with the model."""


class Part(NamedTuple):
    """A piece of a prompt."""

    text: str
    own: bool
    """Written by the template. Else it is text of a message."""


@dataclass
class _Slots:
    """Placeholders and what they stand for."""

    stem: str
    texts: dict[str, str] = field(default_factory=dict)
    required: dict[str, Message] = field(default_factory=dict)
    """Placeholders that must be in the prompt, with the message whose text they stand for."""
    verbatim: dict[str, str] = field(default_factory=dict)
    """What a template that cuts no thinking leaves of a message with thinking → the placeholder of the whole."""

    def put(self, text: str, message: Message | None = None) -> str:
        """The text with its inside replaced; white space around it stays, so that templates can strip it."""
        inside = text.strip()
        if not inside:
            return text
        slot = f"{self.stem}{len(self.texts):06d}z"
        self.texts[slot] = inside
        if message is not None:
            self.required[slot] = message
        start = text.index(inside)
        return text[:start] + slot + text[start + len(inside) :]

    def content(self, message: Message, template: str) -> str:
        """What the template is given for a message."""
        for opens, ends in PAIRS:
            if message.role == "assistant" and ends in template and ends in message.content:
                return self._with_thinking(message, opens, ends)
        return self.put(message.content, message)

    def _with_thinking(self, message: Message, opens: str, ends: str) -> str:
        """Templates cut thinking off by its markers, so those are left where they are."""
        before, _, after = message.content.partition(ends)
        mark = opens if before.lstrip().startswith(opens) else ""
        thoughts = before.lstrip().removeprefix(mark)
        if not (thoughts.strip() or after.strip()):
            return self.put(message.content, message)
        given = mark + self.put(thoughts) + ends + self.put(after, message)
        self.verbatim[given.strip()] = self.put(message.content.strip())
        return given

    def parts(self, rendered: str) -> list[Part]:
        for given, whole in self.verbatim.items():
            rendered = rendered.replace(given, whole)
        pieces = re.split(f"({self.stem}[0-9]{{6}}z)", rendered)
        parts = (Part(self.texts.get(piece, piece), own=piece not in self.texts) for piece in pieces)
        return [part for part in parts if part.text]

    def missing(self, rendered: str) -> Message | None:
        """A message whose text the template left out."""
        return next((message for slot, message in self.required.items() if slot not in rendered), None)


def render(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, thinking: bool) -> list[Part]:
    """The prompt up to where the assistant starts; `thinking` goes to templates that know it.

    A template that refuses or leaves out the system message is given its text at the beginning of the first user
    message. Of earlier answers the template may leave out the thinking, of anything else nothing.

    Raises:
        PolicyError: the template refuses the conversation, or leaves out a message.
    """
    try:
        return _rendered(tokenizer, messages, thinking)
    except PolicyError:
        folded = fold_system(messages)
        if folded is None:
            raise
        try:
            return _rendered(tokenizer, folded, thinking)
        except PolicyError:
            pass
        raise


def fold_system(messages: Sequence[Message]) -> list[Message] | None:
    """The conversation with the first message's text at the beginning of the first user message.

    None where the first message is not the system's or no user message follows.
    """
    users = (position for position, message in enumerate(messages) if message.role == "user")
    first = next(users, None)
    if first is None or messages[0].role != "system":
        return None
    whole = f"{messages[0].content}\n\n{messages[first].content}"
    return [*messages[1:first], Message(role="user", content=whole), *messages[first + 1 :]]


def _rendered(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], thinking: bool) -> list[Part]:
    template = tokenizer.get_chat_template()
    known: dict[str, Any] = {"enable_thinking": thinking} if "enable_thinking" in template else {}
    slots = _Slots(_unused([message.content for message in messages] + [template]))
    chat = [{"role": message.role, "content": slots.content(message, template)} for message in messages]
    roles = ", ".join(dict.fromkeys(message.role for message in messages))
    try:
        text = str(tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False, **known))
    except _FAILURES as error:
        raise PolicyError(
            f"the model's chat template refuses messages of {roles}: "
            f"{error}. Use a model whose template takes these messages, or give its tokenizer such a template"
        ) from error
    if (lost := slots.missing(text)) is not None:
        raise PolicyError(
            f"the model's chat template, given messages of {roles}, leaves out the text of a {lost.role} message. Use "
            "a model whose template keeps all of them, or give its tokenizer such a template"
        )
    return slots.parts(text)


def _unused(texts: Sequence[str]) -> str:
    """A word that is in none of the texts: the same for the same texts."""
    number = 0
    while any(f"oelslot{number}x" in text for text in texts):
        number += 1
    return f"oelslot{number}x"
