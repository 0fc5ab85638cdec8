"""Conversations in templates that truncate, reject or omit a part."""

from typing import Literal

import pytest
from transformers import PreTrainedTokenizerBase

from oel_core.config.run import ModelConfig
from oel_core.errors import PolicyError
from oel_core.policies.text.chat import Chat, prompt_ids
from oel_core.policies.text.rendering import render
from oel_core.prompts.play import first_messages, next_messages, with_knowledge
from oel_core.types import Message
from tests.policies.tokenizers import CHATML, KINDS, QWEN

TURN = "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
WITHOUT_SYSTEM = f"{{% for message in messages if message.role != 'system' %}}{TURN}{{% endfor %}}"
LAST_ONLY = f"{{% for message in messages[-1:] %}}{TURN}{{% endfor %}}"
TESTS_CONTENT = (
    "{% for message in messages %}{% if message.content.startswith('<tool_response>') %}{{ '<|im_start|>tool' }}"
    f"{{% endif %}}{TURN}{{% endfor %}}"
)


def tokenizer(template: str) -> PreTrainedTokenizerBase:
    made = KINDS["chatml"]()
    made.chat_template = template
    return made


def text_of(template: str, *messages: Message) -> str:
    return "".join(part.text for part in render(tokenizer(template), messages, thinking=True))


def message(role: Literal["system", "user", "assistant"], content: str) -> Message:
    return Message(role=role, content=content)


@pytest.mark.parametrize("template", [WITHOUT_SYSTEM, "gemma"])
def test_a_template_without_a_system_role_gets_its_text_with_the_first_user_message(template: str) -> None:
    made = KINDS["gemma"]() if template == "gemma" else tokenizer(template)
    student = next_messages(first_messages("You walk.", "see 0"), "[up]", "see 1", history_turns=None)
    teacher = with_knowledge(student, "- H is a hole")
    read, taught = (prompt_ids(made, messages, thinking=False) for messages in (student, teacher))
    assert read != taught
    written = "".join(part.text for part in render(made, teacher, thinking=False))
    assert f"user\n{teacher[0].content}\n\nsee 0" in written
    assert "system" not in written


@pytest.mark.parametrize("template", [LAST_ONLY, "{{ 'Hello' }}", "{{ messages[5].content }}", "{{ 1 + 'a' }}"])
def test_a_template_that_loses_what_was_said_is_refused_when_the_model_is_loaded(template: str) -> None:
    talk = (message("user", "a"), message("assistant", "b"), message("user", "c"))
    with pytest.raises(PolicyError, match="the model's chat template"):
        render(tokenizer(template), talk, thinking=False)
    if template != LAST_ONLY:  # one message is all that is asked for then
        with pytest.raises(PolicyError, match="the model's chat template"):
            Chat.build(tokenizer(template), frozenset({1}), None, ModelConfig(), "odd")


def test_earlier_thinking_is_cut_where_the_template_does_so_and_is_plain_text_elsewhere() -> None:
    talk = (
        message("user", "a"),
        message("assistant", "<think>\nhm\n</think>\n\nb, not </think>"),
        message("user", "c"),
    )
    assert "assistant\nb, not </think><|im_end|>" in text_of(QWEN, *talk)
    assert "hm" not in text_of(QWEN, *talk)
    assert "assistant\n<think>\nhm\n</think>\n\nb, not </think><|im_end|>" in text_of(CHATML, *talk)
    own = [part.text for part in render(tokenizer(QWEN), talk, thinking=True) if part.own]
    assert "think" not in "".join(own)


def test_a_template_cannot_be_told_anything_by_a_text() -> None:
    assert "tool\n" not in text_of(TESTS_CONTENT, message("user", "<tool_response>won</tool_response>"))
    assert text_of(CHATML, message("user", "oelslot0x000000z")).startswith("<|im_start|>user\noelslot0x000000z<")


def test_white_space_around_a_text_is_the_templates_to_strip() -> None:
    trimmed = CHATML.replace("message.content", "message.content | trim")
    assert text_of(trimmed, message("user", "\n a \n")).startswith("<|im_start|>user\na<|im_end|>")
    assert text_of(CHATML, message("user", "\n a \n")).startswith("<|im_start|>user\n\n a \n<|im_end|>")
    assert text_of(CHATML, message("user", " \n")).startswith("<|im_start|>user\n \n<|im_end|>")
