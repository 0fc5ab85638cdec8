"""Thinking is separated from the answer by token ids, so that an answer may quote its markers."""

import pytest

from oel_core.policies.text.chat import Chat
from oel_core.types import Message
from tests.policies.tokenizers import CHATML, KINDS

CHATS = {
    "open": CHATML.replace("assistant\n' }}", "assistant\n<think>\n' }}"),
    "closed": CHATML.replace("assistant\n' }}", "assistant\n<think>\n\n</think>\n\n' }}"),
    "none": CHATML,
}


def chat(template: str) -> Chat:
    tokenizer = KINDS["chatml"]()
    tokenizer.chat_template = template
    return Chat(tokenizer, frozenset({2}), True, 1000, "")


def ids(chat: Chat, text: str) -> list[int]:
    """As a model samples: markers as their tokens."""
    return chat.tokenizer(text, add_special_tokens=False)["input_ids"]  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("prompt", "response", "answer"),
    [
        ("none", "\n<think>a</think>b</think>c", "b</think>c"),
        ("none", "a</think>b", "a</think>b"),
        ("none", "a<think>b</think>c", "a<think>b</think>c"),
        ("none", "<think>never ends", ""),
        ("none", "", ""),
        ("open", "a</think>b</think>c", "b</think>c"),
        ("open", "never ends", ""),
        ("closed", "a</think>b", "a</think>b"),
        ("closed", "<think>a</think>b", "b"),
    ],
)
def test_thinking_ends_at_its_first_end_and_only_where_it_began(prompt: str, response: str, answer: str) -> None:
    made = chat(CHATS[prompt])
    before = made.prompt_ids([Message(role="user", content="a")])
    completion = made.completion(before, ids(made, response))
    assert (completion.text, completion.answer) == (response, answer)
    assert made.answer_in(before, response) == answer


def test_markers_that_a_text_spells_out_are_no_thinking() -> None:
    made = chat(CHATML)
    assert made.completion([], made.encode("<think>a</think>b")).answer == "<think>a</think>b"
    assert Chat(KINDS["llama3"](), frozenset({2}), True, 1000, "").completion([], [5]).answer is None
