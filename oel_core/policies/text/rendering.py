"""Renders a conversation with the chat template and separates the template's text from the messages' text.

The template is rendered with a placeholder in place of every text, and the texts are inserted afterwards. So no text
can influence the template.
"""

from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from oel_core.errors import PolicyError
from oel_core.policies.text.plain_tools import plain_tools
from oel_core.policies.text.slots import Part, Slots
from oel_core.types import Message

_FAILURES = (TemplateError, TypeError, ValueError, AttributeError, LookupError, ArithmeticError)
"""Exceptions that a template can raise."""


def render(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, thinking: bool) -> list[Part]:
    """The prompt with the generation prompt; `thinking` is passed to templates that support it.

    If a template rejects or leaves out a part, other forms are tried: tools, calls and results as text of system,
    assistant and user (`plain_tools`), then the system message at the beginning of the first user message
    (`fold_system`). The template may leave out the thinking of earlier responses, but nothing else.

    Raises:
        PolicyError: the template rejects the conversation, or leaves out a message.
    """
    plain = plain_tools(messages)
    forms = [messages, *([plain] if plain is not None else []), *filter(None, [fold_system(plain or messages)])]
    refusals = []
    for form in forms:
        try:
            return _rendered(tokenizer, form, thinking)
        except PolicyError as refusal:
            refusals.append(refusal)
    raise refusals[0]


def fold_system(messages: Sequence[Message]) -> list[Message] | None:
    """The conversation with the first message's text at the beginning of the first user message.

    None if the first message is not a system message or no user message follows.
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
    slots = Slots(_unused([message.model_dump_json() for message in messages] + [template]))
    tools: list[Any] = [slots.tool(tool, message) for message in messages for tool in message.tools]
    chat = [slots.message(message, template) for message in messages if message.content or not message.tools]
    roles = ", ".join(dict.fromkeys(message.role for message in messages))
    try:
        text = str(
            tokenizer.apply_chat_template(
                chat, tools=tools or None, add_generation_prompt=True, tokenize=False, **known
            )
        )
    except _FAILURES as error:
        raise PolicyError(
            f"the model's chat template refuses messages of {roles}: "
            f"{error}. Use a model whose template takes these messages, or give its tokenizer such a template"
        ) from error
    if (lost := slots.missing(text)) is not None:
        raise PolicyError(
            f"the model's chat template, given messages of {roles}, leaves out a part of a {lost.role} message. Use "
            "a model whose template keeps all of them, or give its tokenizer such a template"
        )
    return slots.parts(text)


def _unused(texts: Sequence[str]) -> str:
    """A word that none of the texts contains; deterministic."""
    number = 0
    while any(f"oelslot{number}x" in text for text in texts):
        number += 1
    return f"oelslot{number}x"
