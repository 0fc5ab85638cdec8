"""A backend of another server with the OpenAI API: vLLM, SGLang, llama.cpp, a hosted endpoint.

Requests are forwarded unchanged, except for the model's name and for control tokens of chat templates in their texts,
which are escaped because the server applies the template.
"""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import httpx
from pydantic_core import from_json

from oel_core.config.run import ModelConfig
from oel_core.errors import OelError
from oel_core.imports.fields import count
from oel_core.imports.formats.openai.stream import joined
from oel_core.policies.openai.client import error_text, is_local, retry_after_s
from oel_core.policies.openai.policy import OpenAIPolicy
from oel_core.policies.text.chat import Chat
from oel_core.runs.jsonl import LineError
from oel_core.serving.answering.base import Answer, ChatRequest, Chunk
from oel_core.serving.answering.sse import chunks
from oel_core.serving.errors import ApiError
from oel_core.text.markers import defused

log = logging.getLogger(__name__)
PATH = "/chat/completions"
RETRY_S = 1.0
CONNECT_S = 10.0
"""Maximum time to connect."""
KEEP_S = 3.0
"""Idle connections are kept so long, which is less than uvicorn's, and so vLLM's, 5 s."""
_CONFIG_ERRORS = (401, 403, 404, 405)
"""Statuses that mean that the gateway is configured wrongly; the client gets 502."""
_KNOWN_FIELDS = ("delta", "message", "index", "finish_reason", "token_ids", "prompt_token_ids", "stop_reason")


@dataclass(frozen=True)
class Upstream:
    """A server and its name of the model."""

    url: str
    """Base URL of its API, without a trailing slash."""
    key: str | None = field(repr=False)
    model: str
    takes_extras: bool
    """It supports `return_token_ids` and `chat_template_kwargs`."""
    chat: Chat
    """Decodes the token ids."""

    @property
    def headers(self) -> dict[str, str]:
        """Of requests with a JSON body."""
        key = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        return {"Content-Type": "application/json", **key}


class UpstreamBackend:
    """See `oel_core.serving.answering.base.Backend`."""

    shares_processor = False

    def __init__(self, load: Callable[[], OpenAIPolicy], config: ModelConfig) -> None:
        """`load`: asks the server, and has it load the adapter; starts a managed server. Called again when the server
        has lost the adapter, or has ended."""
        self._load, self._loads, self._loading = load, 1, asyncio.Lock()
        self._upstream = _reached(load())
        self._managed, self._timeout_s = config.openai.managed, config.openai.timeout_s
        # trust_env reads the netrc file, whose password would be sent where no key is set
        self._trust_env = not is_local(self._upstream.url)
        self._tls = httpx.create_ssl_context(trust_env=self._trust_env)
        self._connections: dict[bool, aiohttp.ClientSession] = {}

    @classmethod
    def load(cls, path: str, config: ModelConfig) -> "UpstreamBackend":
        """The server of `model.openai`, which must serve `path` or be able to load it as an adapter.

        Raises:
            ConfigError, PolicyError: as `OpenAIPolicy.load`.
        """
        return cls(lambda: OpenAIPolicy.load(path, config), config)

    async def answer(self, request: ChatRequest) -> AsyncGenerator[Chunk | Answer]:
        """See `Backend.answer`."""
        with _api_errors(self._upstream.url):
            async with self._posted(request) as response:
                if request.stream:
                    async for part in self._streamed(response):
                        yield part
                else:
                    yield self._whole(from_json(await response.read()))

    def _body(self, request: ChatRequest) -> dict[str, Any]:
        body = {**request.body, "model": self._upstream.model, "messages": _escaped(request.body["messages"])}
        if request.body.get("tools"):
            body["tools"] = _escaped(request.body["tools"])
        if request.stream:
            body["stream_options"] = {**(request.body.get("stream_options") or {}), "include_usage": True}
        if self._upstream.takes_extras:
            thinking = {"enable_thinking": self._upstream.chat.thinking}
            body = {"chat_template_kwargs": thinking, **body, "return_token_ids": True}
        return body

    def _http(self, kept: bool) -> aiohttp.ClientSession:
        """Connections that are kept between requests, or one for each request. They belong to the event loop of the
        first request.

        aiohttp's, because httpx takes so much more processor time that it is seen in the latency (docs/benchmarks.md).
        """
        if kept not in self._connections:
            keeping = {"keepalive_timeout": KEEP_S} if kept else {"force_close": True}
            self._connections[kept] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=self._tls, **keeping),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=self._timeout_s),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=self._trust_env,
            )
        return self._connections[kept]

    async def _sent(self, request: ChatRequest) -> aiohttp.ClientResponse:
        """The response's head. A kept connection may be closed as it is used, and so may all the others if the server
        was started again: then a new one is used, once."""
        content = json.dumps(self._body(request), ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        url, headers = self._upstream.url + PATH, self._upstream.headers

        def send(kept: bool) -> Awaitable[aiohttp.ClientResponse]:
            return self._http(kept).post(url, data=content, headers=headers, allow_redirects=False)

        try:
            return await send(kept=True)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            return await send(kept=False)

    @asynccontextmanager
    async def _posted(self, request: ChatRequest) -> AsyncIterator[aiohttp.ClientResponse]:
        """The response. A server that was started again has no adapters: it gets this one again, once. A managed server
        that has ended is started again, once."""
        for first in (True, False):
            loads = self._loads
            try:
                sent = await self._sent(request)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                if not (first and self._managed):
                    raise
                await self._load_again(loads, error)
                continue
            async with sent as response:
                if 200 <= response.status < 300:
                    yield response
                    return
                refusal = _refusal(response, await response.read())
                if not (first and response.status == 404):
                    raise refusal
            await self._load_again(loads, refusal)

    async def _load_again(self, loads: int, failure: Exception) -> None:
        """Once for all requests that failed since the load of that number; `failure` if it does not help."""
        async with self._loading:
            if self._loads > loads:
                return
            self._loads += 1
            try:
                self._upstream = await asyncio.to_thread(lambda: _reached(self._load()))
            except OelError as error:
                log.error("the model's server does not have %s any more: %s", self._upstream.model, error)
                raise failure from error
            log.warning("the model's server had lost %s, which was loaded again", self._upstream.model)

    async def _streamed(self, response: aiohttp.ClientResponse) -> AsyncIterator[Chunk | Answer]:
        read = _Accumulator()
        async for chunk in chunks(response.content.iter_any()):
            if chunk.get("error"):
                raise ApiError(502, f"the model's server broke off: {_message_of(chunk['error'])}")
            choice = read.add(chunk)
            delta = choice.get("delta") or {}
            if any(delta.get(name) for name in delta if name != "role") or _further(choice):
                yield Chunk({name: value for name, value in delta.items() if name != "role"}, _further(choice))
        if not read.finish_reason:
            raise ValueError("the stream ended before the answer did")
        whole = joined(read.chunks)
        yield self._answer(_message(whole["choices"][0]["message"]), read.finish_reason, read, {})

    def _whole(self, body: Any) -> Answer:
        read = _Accumulator()
        choice = read.add(body)
        message = choice["message"]
        if not isinstance(message, dict) or not isinstance(choice.get("finish_reason"), str):
            raise ValueError("an answer without a message or a finish_reason")
        return self._answer(message, choice["finish_reason"], read, _further(choice))

    def _answer(
        self, message: Mapping[str, Any], finish: str, read: "_Accumulator", extra: Mapping[str, Any]
    ) -> Answer:
        ids = tuple(read.response_ids)
        text = self._upstream.chat.text(ids) if ids else ""
        if not _names_calls(text, message):
            text, ids = "", ()
        return Answer(
            message=message,
            finish_reason=finish,
            prompt_tokens=count(read.usage.get("prompt_tokens")),
            response_tokens=count(read.usage.get("completion_tokens")),
            text=text,
            response_ids=ids,
            prompt_ids=tuple(read.prompt_ids),
            extra=extra,
        )

    async def close(self) -> None:
        """Closes the connections. A managed server goes on: it may serve other versions."""
        for connections in self._connections.values():
            await connections.close()


def _reached(policy: OpenAIPolicy) -> Upstream:
    """The server that the policy has found, whose own connections are not needed any more."""
    client, abilities = policy.client, policy.abilities
    policy.disconnect()
    return Upstream(client.base_url, client.api_key, abilities.model, abilities.takes_extras, policy.chat)


@dataclass
class _Accumulator:
    """Collects the chunks of an answer."""

    chunks: list[dict[str, Any]] = field(default_factory=list)
    usage: Mapping[str, Any] = field(default_factory=dict)
    response_ids: list[int] = field(default_factory=list)
    prompt_ids: list[int] = field(default_factory=list)
    finish_reason: str = ""

    def add(self, chunk: dict[str, Any]) -> dict[str, Any]:
        """Adds a chunk and returns its choice, empty if it has none.

        Raises:
            ValueError, TypeError, LookupError: it does not conform to the API.
        """
        self.usage = chunk.get("usage") or self.usage
        choices = chunk["choices"]
        choice: dict[str, Any] = choices[0] if choices else {}
        if choices:
            self.chunks.append({"choices": choices})
        self.finish_reason = choice.get("finish_reason") or self.finish_reason
        self.prompt_ids += _ids(chunk.get("prompt_token_ids") or choice.get("prompt_token_ids"))
        self.response_ids += _ids(choice.get("token_ids"))
        return choice


def _ids(found: Any) -> list[int]:
    ids = list(found or ())
    if not all(type(one) is int and 0 <= one < 2**31 for one in ids):
        raise ValueError("a token id is out of range")
    return ids


def _further(choice: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in choice.items() if name not in _KNOWN_FIELDS and value is not None}


def _message(joined: Mapping[str, Any]) -> dict[str, Any]:
    """The message joined from a stream, in the format of a whole one."""
    calls = [
        {"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": call["arguments"]}}
        for call in joined["tool_calls"]
    ]
    message = {"role": "assistant", "content": joined["content"] or None}
    return message | ({"tool_calls": calls} if calls else {})


def _names_calls(text: str, message: Mapping[str, Any]) -> bool:
    """Whether the text has the functions of the message's calls. Of a call that `tool_choice` names, servers may have
    the model write the arguments only, which say nothing without the call."""
    return all(call["function"]["name"] in text for call in message.get("tool_calls") or ())


def _escaped(value: Any) -> Any:
    """The JSON value with escaped control tokens in its texts; image data has none."""
    if isinstance(value, str):
        return value if value.startswith("data:") else defused(value)
    if isinstance(value, dict):
        return {name: _escaped(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_escaped(each) for each in value]
    return value


def _refusal(response: aiohttp.ClientResponse, content: bytes) -> ApiError:
    status, message = response.status, error_text(content)
    if status in _CONFIG_ERRORS or status < 400:  # redirects are not followed
        return ApiError(502, f"the model's server refuses the gateway ({status}): {message}")
    if status == 429 or status == 503:
        wait = retry_after_s(response.headers.get("retry-after"))
        return ApiError(status, f"the model's server is busy: {message}", retry_s=wait or RETRY_S)
    if status >= 500:
        return ApiError(502, f"the model's server failed ({status}): {message}")
    return ApiError(status, message)


def _message_of(error: Any) -> str:
    return str(error.get("message", error)) if isinstance(error, Mapping) else str(error)


@contextmanager
def _api_errors(url: str) -> Iterator[None]:
    """Converts errors of the network and of malformed answers to ApiError."""
    try:
        yield
    except aiohttp.ServerTimeoutError as error:
        raise ApiError(504, "the model's server does not answer in time") from error
    except aiohttp.ClientError as error:
        raise ApiError(
            503, f"the model's server at {url} cannot be reached ({type(error).__name__})", retry_s=RETRY_S
        ) from error
    except (ValueError, TypeError, LookupError, AttributeError, LineError) as error:
        raise ApiError(502, f"the model's server gave an answer that cannot be read: {error}") from error
