"""What a request asks of a policy in this process: sampling, stop strings, tools. What cannot be done is refused."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from oel_core.config.sampling import Sampling
from oel_core.serving.answering.base import ChatRequest
from oel_core.serving.errors import ApiError
from oel_core.text.invalid import first_problem

MOST_STOPS = 16
_ABSENT: Mapping[str, tuple[Any, ...]] = {
    "logprobs": (None, False),
    "top_logprobs": (None, 0),
    "logit_bias": (None, {}),
    "frequency_penalty": (None, 0),
    "presence_penalty": (None, 0),
    "response_format": (None, {"type": "text"}),
    "tool_choice": (None, "auto", "none"),
    "functions": (None, []),
    "prediction": (None,),
    "audio": (None,),
    "web_search_options": (None,),
}
"""Fields of the API that are not supported → values that ask for nothing."""


@dataclass(frozen=True)
class Asked:
    """How a request is answered."""

    sampling: Sampling
    """Its `max_tokens` may be lowered to what fits, unless `exact_length`."""
    exact_length: bool
    """The client named the length itself."""
    seed: int
    stop: tuple[str, ...]
    tools: frozenset[str]
    """Names of the functions that may be called."""


def asked(request: ChatRequest, defaults: Sampling) -> Asked:
    """Reads the request's options; `defaults` has what it leaves open.

    Raises:
        ApiError: an option is wrong or not supported.
    """
    body = request.body
    if request.not_recorded is not None:
        raise ApiError(400, request.not_recorded, param="messages")
    for name, nothing in _ABSENT.items():
        if body.get(name) not in nothing:
            raise ApiError(400, f"{name} is not supported by this backend", param=name, code="unsupported_parameter")
    length = body.get("max_completion_tokens") or body.get("max_tokens")
    given = {"temperature": body.get("temperature"), "top_p": body.get("top_p"), "top_k": body.get("top_k")}
    values = {name: value for name, value in (*given.items(), ("max_tokens", length)) if value is not None}
    seed = body.get("seed")
    if seed is not None and (type(seed) is not int or not -(2**63) <= seed < 2**64):
        raise ApiError(400, "seed must be an integer of 64 bits", param="seed")
    callable_ = () if body.get("tool_choice") == "none" else request.messages[0].tools
    return Asked(
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
    if not isinstance(found, list) or len(found) > MOST_STOPS or not all(isinstance(one, str) and one for one in found):
        raise ApiError(400, f"stop must be a text or a list of at most {MOST_STOPS} texts", param="stop")
    return tuple(found)
