"""Probes the capabilities of a server with the OpenAI API once, at the start."""

import re
from dataclasses import dataclass
from typing import Any, Literal

from oel_core.config.serving import OpenAIConfig
from oel_core.errors import ConfigError, PolicyError
from oel_core.policies.openai.chat_body import chat_body
from oel_core.policies.openai.client import ApiClient, ServerRefusal
from oel_core.policies.text.chat import Chat
from oel_core.types import Message

TOO_LONG = re.compile(
    r"context.?(length|size|window)|maximum.{0,20}(length|tokens)|max_model_len|too (long|many tokens)", re.I
)
"""Matches servers' messages that a prompt is too long."""
QUESTION = (Message(role="user", content="Say one word."),)


@dataclass(frozen=True)
class Abilities:
    """The server's capabilities."""

    model: str
    """The server's name of the model."""
    api: Literal["completions", "chat"]
    """Prompts as token ids, or as messages."""
    gives_ids: bool
    """Whether prompt and response are returned as token ids."""
    takes_extras: bool
    """Whether it supports parameters beyond the OpenAI API: top_k, stop_token_ids, the template's thinking switch."""
    max_length: int | None
    """Maximum tokens of prompt and response together, if the server states it."""
    same_prompt: bool | None
    """Whether the local chat template and the server produce equal token ids; None if this could not be checked."""

    def describe(self) -> str:
        """One line for logs and messages."""
        sent = "token ids" if self.api == "completions" else "messages, put into the server's own template"
        back = "token ids" if self.gives_ids else "text only, so recorded ids are a local tokenizer's"
        more = "top_k and the thinking switch" if self.takes_extras else "neither top_k nor the thinking switch"
        length = f"{self.max_length} tokens" if self.max_length else "a length that it does not say"
        agree = {True: "agrees", False: "DISAGREES", None: "could not be compared"}[self.same_prompt]
        return (
            f"model {self.model} with {length}: takes {sent}; gives {back}; knows {more}; "
            f"the local chat template {agree}"
        )


def extras(chat: Chat) -> dict[str, Any]:
    """Parameters beyond the OpenAI API that servers of open models support."""
    return {"return_token_ids": True, "stop_token_ids": sorted(chat.stops), "skip_special_tokens": True}


async def probe(client: ApiClient, config: OpenAIConfig, chat: Chat) -> Abilities:
    """Lists the server's models and generates one token with each kind of request.

    Raises:
        ConfigError: wrong model name, rejected API key, or a server without the API that `model.openai.api` requires.
        PolicyError: no usable response.
    """
    try:
        model, max_length = await _model(client, config)
        seen = await _try_chat(client, chat, model) if config.api != "completions" else _Tried()
        local = chat.prompt_ids(QUESTION)
        same = None if seen.prompt_ids is None else seen.prompt_ids == local
        if config.api != "chat" and same is not False:
            sent = await _try_ids(client, chat, model, local)
            if sent.works and (sent.gives_ids or config.api == "completions"):
                return Abilities(model, "completions", sent.gives_ids, sent.takes_extras, max_length, same)
        if config.api != "completions" and seen.works:
            return Abilities(model, "chat", seen.gives_ids, seen.takes_extras, max_length, same)
    except ServerRefusal as error:
        raise _explained(error, config) from error
    raise ConfigError(
        f"{client.base_url} has no API that can be used (model.openai.api is {config.api}): it must serve "
        "/chat/completions, or /completions with token ids as the prompt"
    )


def _explained(error: ServerRefusal, config: OpenAIConfig) -> PolicyError | ConfigError:
    if error.status in (401, 403):
        key = f"in ${config.api_key_env}" if config.api_key_env else "which is not set (model.openai.api_key_env)"
        return ConfigError(f"{error}; it refuses the API key {key}")
    return ConfigError(f"{error}; is model.openai.base_url the address of the API, which usually ends in /v1?")


async def _model(client: ApiClient, config: OpenAIConfig) -> tuple[str, int | None]:
    """The model name for requests, and the length that the server states for it."""
    try:
        answer = await client.get("/models")
    except ServerRefusal as error:
        if error.status not in (404, 405) or config.model is None:
            raise
        return config.model, None  # a server that lists nothing; the first request will tell
    listed = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(listed, list):
        raise ConfigError(f"{client.base_url}/models is not a list of models: is this the address of an OpenAI API?")
    served = {str(entry.get("id")): entry for entry in listed if isinstance(entry, dict)}
    bases = [name for name, entry in served.items() if not entry.get("parent")]
    wanted = config.model or (bases[0] if len(bases) == 1 else None)
    if wanted not in served:
        asked = f"model.openai.model is {wanted}, which it does not serve" if wanted else "it serves several models"
        raise ConfigError(f"{client.base_url}: {asked}; name one of: {', '.join(sorted(served)) or '(none)'}")
    length = served[wanted].get("max_model_len")
    return wanted, length if isinstance(length, int) else None


@dataclass(frozen=True)
class _Tried:
    """Result of a request for one token."""

    works: bool = False
    takes_extras: bool = False
    gives_ids: bool = False
    prompt_ids: list[int] | None = None


async def _try(client: ApiClient, path: str, body: dict[str, Any], more: dict[str, Any]) -> tuple[Any, bool] | None:
    """The response, and whether the server accepted `more`; None if it accepts the request in neither form."""
    for fields in (more, {}):
        try:
            read = await client.post(path, {**body, **fields, "max_tokens": 1, "temperature": 0}, _with_choice)
        except ServerRefusal as error:
            if error.status not in (400, 404, 405, 415, 422, 501):
                raise
        else:
            return read, bool(fields)
    return None


def _with_choice(answer: Any) -> Any:
    answer["choices"][0]["finish_reason"]
    return answer


async def _try_chat(client: ApiClient, chat: Chat, model: str) -> _Tried:
    more = {**extras(chat), "top_k": 1, "chat_template_kwargs": {"enable_thinking": chat.thinking}}
    tried = await _try(client, "/chat/completions", chat_body(model, QUESTION), more)
    if tried is None:
        return _Tried()
    answer, took = tried
    prompt = answer.get("prompt_token_ids")
    back = answer["choices"][0].get("token_ids") is not None and isinstance(prompt, list)
    return _Tried(True, took, back, prompt if isinstance(prompt, list) else None)


async def _try_ids(client: ApiClient, chat: Chat, model: str, prompt: list[int]) -> _Tried:
    tried = await _try(client, "/completions", {"model": model, "prompt": prompt}, {**extras(chat), "top_k": 1})
    if tried is None:
        return _Tried()
    answer, took = tried
    return _Tried(True, took, isinstance(answer["choices"][0].get("token_ids"), list))
