"""Answers by a model of this process: what is streamed is what is answered, and both are what was sampled."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oel_core.config.run import ModelConfig
from oel_core.config.sampling import Sampling
from oel_core.policies.hf.policy import TransformersPolicy
from oel_core.policies.text.chat import Chat
from oel_core.serving.answering.base import Answer, ChatRequest, Chunk
from oel_core.serving.answering.in_process import PolicyBackend
from oel_core.serving.answering.text_stream import TextStream, stop_at
from oel_core.serving.answering.tool_calls import plain_length, tool_calls
from oel_core.serving.api.requests import chat_request
from oel_core.serving.errors import ApiError
from tests.fakes import byte_tokenizer, tiny_model_folder

CHAT = Chat.build(byte_tokenizer(), frozenset({0, 2}), 512, ModelConfig(), "tiny")


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PolicyBackend]:
    folder = tiny_model_folder(tmp_path_factory.mktemp("model"))
    policy = TransformersPolicy.load(str(folder), ModelConfig(max_length=256))
    backend = PolicyBackend(policy, Sampling(temperature=1.0, max_tokens=40))
    yield backend
    asyncio.run(backend.close())


def request(**more: Any) -> ChatRequest:
    from json import dumps

    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}], **more}
    return chat_request(dumps(body).encode(), "")


def answered(backend: PolicyBackend, asked: ChatRequest) -> tuple[list[Chunk], Answer]:
    async def collect() -> list[Chunk | Answer]:
        return [part async for part in backend.answer(asked)]

    *pieces, answer = asyncio.run(collect())
    assert isinstance(answer, Answer)
    return [piece for piece in pieces if isinstance(piece, Chunk)], answer


def streamed(pieces: list[Chunk]) -> str:
    return "".join(piece.delta.get("content", "") for piece in pieces)


@pytest.mark.parametrize("seed", range(6))
def test_a_stream_is_the_answer_for_any_bytes_that_a_model_writes(backend: PolicyBackend, seed: int) -> None:
    pieces, answer = answered(backend, request(stream=True, seed=seed))
    _, whole = answered(backend, request(seed=seed))
    assert streamed(pieces) == answer.message["content"] == whole.message["content"]
    assert answer.response_ids == whole.response_ids
    assert answer.text == CHAT.text(answer.response_ids)
    assert list(answer.prompt_ids) == CHAT.prompt_ids(request().messages)
    assert answer.finish_reason == ("stop" if answer.response_ids[-1] in CHAT.stops else "length")


def test_a_stop_string_ends_the_response_where_it_begins(backend: PolicyBackend) -> None:
    seed, whole = next(
        (seed, answer)
        for seed in range(20)
        if len((answer := answered(backend, request(seed=seed, max_tokens=40))[1]).message["content"]) > 10
    )
    stop = whole.message["content"][4:6]
    pieces, answer = answered(backend, request(seed=seed, stop=[stop], stream=True, max_tokens=40))
    cut = whole.message["content"][: whole.message["content"].index(stop)]
    assert answer.message["content"] == streamed(pieces) == cut
    assert answer.finish_reason == "stop"
    assert answer.response_ids == whole.response_ids[: len(answer.response_ids)]
    assert len(answer.response_ids) < len(whole.response_ids)


def test_a_prompt_that_does_not_fit_is_refused_and_others_are_answered(backend: PolicyBackend) -> None:
    with pytest.raises(ApiError) as refused:
        answered(backend, request(messages=[{"role": "user", "content": "a" * 300}]))
    assert (refused.value.status, refused.value.code) == (400, "context_length_exceeded")
    with pytest.raises(ApiError, match="over"):
        answered(backend, request(max_tokens=300))
    near = request(messages=[{"role": "user", "content": "a" * 210}])
    _, answer = answered(backend, near)
    assert answer.prompt_tokens + answer.response_tokens <= 256, "what fits is what is asked for where nobody says"


def test_requests_that_wait_are_answered_together_and_each_by_its_own_seed(backend: PolicyBackend) -> None:
    async def both() -> list[list[Chunk | Answer]]:
        async def one(seed: int) -> list[Chunk | Answer]:
            return [part async for part in backend.answer(request(seed=seed, temperature=0.5))]

        return await asyncio.gather(*(one(seed) for seed in (1, 2, 1)))

    first, second, third = (found[-1] for found in asyncio.run(both()))
    assert isinstance(first, Answer)
    assert isinstance(second, Answer)
    assert isinstance(third, Answer)
    assert first.response_ids != second.response_ids


def test_a_client_that_leaves_ends_the_response(backend: PolicyBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    policy: Any = backend._policy
    lengths: list[int] = []
    ended = threading.Event()
    real = policy.generate_watched

    def watched(*arguments: Any) -> Any:
        found = real(*arguments)
        lengths.append(len(found[0].response_ids))
        ended.set()
        return found

    monkeypatch.setattr(policy, "generate_watched", watched)

    async def leave() -> None:
        asked = request(stream=True, seed=3, max_tokens=200, temperature=1.5, stop=["never said"])
        parts = backend.answer(asked)
        await anext(parts)
        await parts.aclose()  # type: ignore[attr-defined]
        assert await asyncio.to_thread(ended.wait, 60)

    asyncio.run(leave())
    _, whole = answered(backend, request(seed=3, max_tokens=200, temperature=1.5))
    assert lengths[0] <= len(whole.response_ids)


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        ("plain", "plain", []),
        ('<tool_call>\n{"name": "a", "arguments": {"x": 1}}\n</tool_call>', "", [("a", '{"x": 1}')]),
        ('Let me see.\n<tool_call>{"name": "b"}</tool_call>', "Let me see.", [("b", "{}")]),
        ('{"name": "a", "parameters": {}}\n{"name": "a"}', "", [("a", "{}"), ("a", "{}")]),
        ('{"name": "unknown", "arguments": {}}', '{"name": "unknown", "arguments": {}}', []),
        ('{"name": 3}', '{"name": 3}', []),
        ("<tool_call>not json</tool_call>", "<tool_call>not json</tool_call>", []),
        ('<tool_call>{"name": "a", "arguments": "{}"}', "", [("a", "{}")]),
    ],
)
def test_calls_in_what_a_model_writes(text: str, content: str, calls: list[tuple[str, str]]) -> None:
    rest, found = tool_calls(text, {"a", "b"})
    assert rest == content
    assert [(call["function"]["name"], call["function"]["arguments"]) for call in found] == calls


PIECES = st.lists(
    st.sampled_from(["a", " ", "\n", "{", "<tool_call>", "<tool", '{"name": "a"}', "</tool_call>", "ü", "stop"]),
    max_size=12,
)


@given(PIECES, st.booleans())
def test_what_is_shown_while_it_is_written_is_a_beginning_of_the_answer(parts: list[str], tools: bool) -> None:
    text = "".join(parts)
    stream = TextStream(CHAT, [], ["stop"], tools=tools)
    shown = ""
    for token in CHAT.encode(text):
        shown += stream.add(token)[1]
    cut = stop_at(text, ["stop"])
    said = text if cut is None else text[:cut]
    content, calls = tool_calls(said, {"a"}) if tools else (said, [])
    assert stream.sent == shown
    assert stream.stopped == (cut is not None)
    assert content.startswith(shown) or (calls and shown.startswith(content) and not shown[len(content) :].strip())


@given(PIECES)
def test_what_cannot_become_a_call_is_no_part_of_one(parts: list[str]) -> None:
    text = "".join(parts)
    sure = text[: plain_length(text)]
    content, _ = tool_calls(text + '<tool_call>{"name": "a"}</tool_call>', {"a"})
    assert content.startswith(sure.rstrip())
