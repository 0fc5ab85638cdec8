"""Options of a request to a policy in this process: sampling, stop strings, tools. Unsupported ones are rejected."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from oel_core.config.sampling import Sampling
from oel_core.serving.answering.base import ChatRequest
from oel_core.serving.errors import ApiError
from oel_core.text.invalid import first_problem

MAX_STOP_STRINGS = 16
ELSEWHERE = "with model.backend openai it is passed on to the model's server"
_UNSUPPORTED: Mapping[str, tuple[Any, ...]] = {
    "logprobs": (None, False),
    "top_logprobs": (None, 0),
    "logit_bias": (None, {}),
    "frequency_penalty": (None, 0),
    "presence_penalty": (None, 0),
    "response_format": (None, {"type": "text"}),
    "tool_choice": (None, "auto", "none"),
    "parallel_tool_calls": (None, True),
    "functions": (None, []),
    "prediction": (None,),
    "audio": (None,),
    "web_search_options": (None,),
    "min_p": (None, 0),
    "min_tokens": (None, 0),
    "repetition_penalty": (None, 1),
    "ignore_eos": (None, False),
    "bad_words": (None, []),
    "stop_token_ids": (None, []),
    "allowed_token_ids": (None, []),
    "structured_outputs": (None, {}),
    "guided_json": (None,),
    "guided_regex": (None,),
    "guided_choice": (None,),
    "guided_grammar": (None,),
    "json_schema": (None,),
    "grammar": (None, ""),
    "regex": (None, ""),
    "ebnf": (None, ""),
}
"""Unsupported fields → values that are accepted because they have no effect.

Those of OpenAI's API, and those by which vLLM, SGLang and llama.cpp constrain an answer or change its sampling: a
client that sends one of them must not get an answer that looks as if it had been used.
"""


@dataclass(frozen=True)
class ChatOptions:
    """The validated options of a request."""

    sampling: Sampling
    """`max_tokens` may be lowered to what fits the context, unless `exact_length`."""
    exact_length: bool
    """The client set the length."""
    seed: int
    stop: tuple[str, ...]
    tools: frozenset[str]
    """Names of the functions that may be called."""


def chat_options(request: ChatRequest, defaults: Sampling) -> ChatOptions:
    """The request's options; `defaults` for those that it does not set.

    Raises:
        ApiError: an option is invalid or not supported.
    """
    body = request.body
    if request.not_recorded is not None:
        raise ApiError(400, request.not_recorded, param="messages")
    for name, accepted in _UNSUPPORTED.items():
        if body.get(name) not in accepted:
            said = f"{name} is not supported where the gateway runs the model in its own process; {ELSEWHERE}"
            raise ApiError(400, said, param=name, code="unsupported_parameter")
    length = body.get("max_completion_tokens") or body.get("max_tokens")
    given = {"temperature": body.get("temperature"), "top_p": body.get("top_p"), "top_k": body.get("top_k")}
    values = {name: value for name, value in (*given.items(), ("max_tokens", length)) if value is not None}
    seed = body.get("seed")
    if seed is not None and (type(seed) is not int or not -(2**63) <= seed < 2**64):
        raise ApiError(400, "seed must be an integer of 64 bits", param="seed")
    callable_ = () if body.get("tool_choice") == "none" else request.messages[0].tools
    return ChatOptions(
        sampling=_sampling(values, defaults),
        exact_length=length is not None,
        seed=secrets.randbits(32) if seed is None else seed % 2**32,
        stop=_stop(body.get("stop")),
        tools=frozenset(tool.name for tool in callable_),
    )


def _sampling(values: Mapping[str, Any], defaults: Sampling) -> Sampling:
    try:
        return Sampling.model_validate({**defaults.model_dump(), **values})
    except ValidationError as error:
        field, reason = first_problem(error)
        raise ApiError(400, f"{field}: {reason}", param=field) from error


def _stop(value: Any) -> tuple[str, ...]:
    found = [value] if isinstance(value, str) else value or []
    if (
        not isinstance(found, list)
        or len(found) > MAX_STOP_STRINGS
        or not all(isinstance(one, str) and one for one in found)
    ):
        raise ApiError(400, f"stop must be a text or a list of at most {MAX_STOP_STRINGS} texts", param="stop")
    return tuple(found)
