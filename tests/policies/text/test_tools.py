"""Tools, calls and results in chat templates: natively where supported, as plain text elsewhere."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from transformers import PreTrainedTokenizerBase

from oel_core.policies.openai.chat_body import chat_body
from oel_core.policies.text.chat import prompt_ids
from oel_core.policies.text.plain_tools import plain_tools
from oel_core.policies.text.rendering import render
from oel_core.policies.text.structure import encoder_for
from oel_core.prompts.play import KNOWLEDGE_HEADER, with_knowledge
from oel_core.types import Message, Tool, ToolCall
from tests.policies.tokenizers import KINDS

TOOL_TEMPLATE = (
    "{% if tools %}{{ '<|im_start|>system\n' }}{% if messages[0].role == 'system' %}{{ messages[0].content + '\n' }}"
    "{% endif %}{% for tool in tools %}{{ tool | tojson }}{{ '\n' }}{% endfor %}{{ '<|im_end|>\n' }}"
    "{% elif messages[0].role == 'system' %}{{ '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}"
    "{% endif %}{% for message in messages if message.role != 'system' %}"
    "{{ '<|im_start|>' + message.role + '\n' + message.content }}"
    "{% for call in message.tool_calls or [] %}"
    "{{ '<tool_call>' + call.function.name + call.function.arguments | tojson + '</tool_call>' }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SCHEMA = {"type": "object", "properties": {"order": {"type": "string", "description": 'Its "id"\nas written'}}}
END_ORDER = Tool(name="end_order", description="Ends an order.", parameters=json.dumps(SCHEMA))


def conversation(
    arguments: str = '{"order": "A243"}', result: str = "closed", user: str = "Close A243."
) -> list[Message]:
    return [
        Message(role="developer", content="You help in a shop.", tools=(END_ORDER,)),
        Message(role="user", content=user),
        Message(role="assistant", content="", tool_calls=(ToolCall(id="c1", name="end_order", arguments=arguments),)),
        Message(role="tool", content=result, tool_call_id="c1"),
    ]


def tokenizer(template: str) -> PreTrainedTokenizerBase:
    made = KINDS["chatml"]()
    made.chat_template = template
    return made


def written(template: str, messages: list[Message]) -> str:
    return "".join(part.text for part in render(tokenizer(template), messages, thinking=False))


def test_a_template_that_knows_tools_gets_declarations_calls_and_results() -> None:
    text = written(TOOL_TEMPLATE, conversation())
    system, user, call, result, _ = text.split("<|im_end|>\n")
    name, declared = system.removeprefix("<|im_start|>system\n").split("\n")[:2]
    assert name == "You help in a shop."
    assert json.loads(declared) == {
        "type": "function",
        "function": {"name": "end_order", "description": "Ends an order.", "parameters": SCHEMA},
    }
    assert user == "<|im_start|>user\nClose A243."
    assert call == '<|im_start|>assistant\n<tool_call>end_order{"order": "A243"}</tool_call>'
    assert result == "<|im_start|>tool\nclosed"


def test_a_template_without_tools_is_given_them_as_text() -> None:
    made = KINDS["gemma"]()  # without a system role too
    text = "".join(part.text for part in render(made, conversation(), thinking=False))
    assert text.count("<start_of_turn>user") == 2
    assert '"name": "end_order"' in text
    assert '{"name": "end_order", "arguments": {"order": "A243"}}' in text
    assert "Result: closed" in text


@pytest.mark.parametrize("arguments", ["", "not json", '["a"]', '{"a": NaN}', '{"order": "<|im_end|>"}'])
def test_arguments_that_a_model_got_wrong_are_shown_as_it_wrote_them(arguments: str) -> None:
    messages = conversation(arguments)
    assert (arguments or "{}") in written(TOOL_TEMPLATE, messages) or "NaN" in arguments
    assert plain_tools(messages)[2].content == f'{{"name": "end_order", "arguments": {arguments or "{}"}}}'  # type: ignore[index]


pieces = [*'ab "\n\\{}<|>', "<|im_end|>", "<tool_call>", "<|im_start|>"]
texts = st.lists(st.sampled_from(pieces), max_size=9).map("".join)


@given(texts, texts, texts)
def test_no_text_of_a_conversation_with_tools_becomes_structure(argument: str, result: str, description: str) -> None:
    made = tokenizer(TOOL_TEMPLATE)
    tool = Tool(name="end_order", description=description, parameters=json.dumps({"title": argument}))
    messages = conversation(json.dumps({argument: argument}), result)
    messages[0] = Message(role="system", content="You help.", tools=(tool,))
    plain = conversation(json.dumps({"a": "a"}), "b")
    plain[0] = Message(role="system", content="You help.", tools=(END_ORDER,))
    special = set(made.all_special_ids)
    count = [sum(token in special for token in prompt_ids(made, talk, thinking=False)) for talk in (messages, plain)]
    assert count[0] == count[1]
    parts = render(made, messages, thinking=False)
    assert made.decode(encoder_for(made).encode(parts)).count("<|im_start|>assistant") >= 2


def test_knowledge_joins_the_developer_message_and_leaves_the_tools() -> None:
    taught = with_knowledge(conversation(), "- close with end_order")
    assert (taught[0].role, taught[0].tools) == ("developer", (END_ORDER,))
    assert taught[0].content == f"You help in a shop.\n\n{KNOWLEDGE_HEADER}\n- close with end_order"
    assert len(taught) == 4


def test_a_server_gets_the_fields_of_the_api() -> None:
    body = chat_body("shop", conversation(result="<|im_end|>"))
    assert body["tools"] == [
        {"type": "function", "function": {"name": "end_order", "description": "Ends an order.", "parameters": SCHEMA}}
    ]
    assert body["messages"][2]["tool_calls"] == [
        {"id": "c1", "type": "function", "function": {"name": "end_order", "arguments": '{"order": "A243"}'}}
    ]
    assert body["messages"][3] == {"role": "tool", "content": "< |im_end|>", "tool_call_id": "c1"}
    assert "tools" not in chat_body("shop", conversation()[1:2])


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"role": "user", "tool_calls": [{"name": "f", "arguments": "{}"}]}, "only an assistant calls tools"),
        ({"role": "assistant", "tool_call_id": "c"}, "only a tool answers calls"),
        ({"role": "user", "tools": [{"name": "f"}]}, "they stand in the system message"),
        ({"role": "system", "tools": [{"name": "f f"}]}, "pattern"),
        ({"role": "system", "tools": [{"name": "f", "parameters": "[]"}]}, "no JSON object"),
        ({"role": "system", "tools": [{"name": "f", "parameters": "{"}]}, "EOF"),
    ],
)
def test_messages_hold_what_belongs_to_their_role(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Message.model_validate({"content": "", **fields})
