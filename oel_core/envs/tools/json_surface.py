"""Calls as JSON objects, `{"name": ..., "arguments": {...}}`, strictly validated by pydantic."""

import json
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    StrictInt,
    StringConstraints,
    ValidationError,
    create_model,
)

from oel_core.envs.tools.conventions import Convention
from oel_core.envs.tools.surface import MAX_CHARACTERS, CallError
from oel_core.envs.tools.tool import Call, Command, Tool, is_former
from oel_core.types import Tool as Function


class FunctionCall(BaseModel):
    """The fields that a response must have."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    arguments: dict[str, Any] = Field(validation_alias=AliasChoices("arguments", "parameters"))
    """Llama's templates ask for `parameters`."""


class FunctionCalls:
    """The surface `json`. See `oel_core.envs.tools.surface.Surface`."""

    def intro(self, tool: Tool) -> str:
        """See `Surface.intro`."""
        return (
            f"The API is called {tool.program}. Answer with one function call in JSON: "
            '{"name": "...", "arguments": {...}}'
        )

    def functions(self, tool: Tool) -> tuple[Function, ...]:
        """None: the intro says how a call is written."""
        return ()

    def find(self, tool: Tool, response: str) -> str | None:
        """The last JSON object with `name` and `arguments`, with or without `<tool_call>` around it."""
        text, decoder = response[-MAX_CHARACTERS:], json.JSONDecoder()
        start = text.rfind("{")
        while start >= 0:
            try:
                value, _ = decoder.raw_decode(text, start)
                return json.dumps(FunctionCall.model_validate(value).model_dump())
            except (ValueError, RecursionError):
                start = text.rfind("{", 0, start)
        return None

    def read(self, tool: Tool, action: str) -> Call:
        """See `Surface.read`."""
        if len(action) > MAX_CHARACTERS:
            raise CallError("the call is too long", _names(tool))
        try:
            asked = FunctionCall.model_validate_json(action)
        except ValidationError as error:
            raise CallError("this is no function call", _names(tool)) from error
        command = next((command for command in tool.every_command if function_name(command) == asked.name), None)
        if command is None:
            raise CallError(f"no such function: {asked.name}", _names(tool))
        former = [name for name in asked.arguments if is_former(name) and name not in _model(command).model_fields]
        if former:
            raise CallError(f"parameter {former[0]} is deprecated", _signature(command))
        try:
            values = _model(command).model_validate(asked.arguments).model_dump()
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise CallError(f"{place}: {first['msg']}", _signature(command)) from error
        return Call(
            command.kind.name,
            tuple(sorted((parameter.slot, values[parameter.name]) for parameter in command.parameters)),
        )

    def write(self, tool: Tool, call: Call) -> str:
        """Every argument by name; a default is left out."""
        command, values = tool.command(call.kind), dict(call.arguments)
        arguments: dict[str, Any] = {
            parameter.name: values[parameter.slot]
            for parameter in command.parameters
            if values[parameter.slot] != parameter.default
        }
        if command.confirmation is not None:
            arguments[command.confirmation] = True
        return json.dumps({"name": function_name(command), "arguments": arguments})


def function_name(command: Command) -> str:
    """Name of a command's function."""
    return f"{command.noun}_{command.verb}"


def _names(tool: Tool) -> str:
    return f"functions: {', '.join(sorted(map(function_name, tool.commands)))}"


@lru_cache(maxsize=256)
def _model(command: Command) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    for parameter in command.parameters:
        default = ... if parameter.default is None else parameter.default
        fields[parameter.name] = (_type(parameter.convention), default)
    if command.confirmation is not None:
        fields[command.confirmation] = (Literal[True], ...)
    return create_model("Arguments", __config__=ConfigDict(extra="forbid", strict=True), **fields)


def _type(convention: Convention) -> Any:
    if convention.integer:
        return Annotated[StrictInt, Field(ge=0)]
    return Annotated[str, StringConstraints(pattern=rf"\A(?:{convention.pattern})\z", strict=True)]


def _signature(command: Command) -> str:
    described = [
        f"{parameter.name}: {'integer' if parameter.convention.integer else 'string'}"
        + ("" if parameter.default is None else f" = {parameter.default}")
        for parameter in command.parameters
    ]
    return f"usage: {function_name(command)}({', '.join(described)})"
