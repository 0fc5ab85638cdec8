"""Native function calls: functions are declared through the model's chat template, in the template's format."""

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from oel_core.envs.tools.json_surface import FunctionCall, FunctionCalls, function_name
from oel_core.envs.tools.surface import MAX_CHARACTERS, CallError
from oel_core.envs.tools.tool import Call, Command, Tool
from oel_core.types import Tool as Function


class DeclaredFunctions(FunctionCalls):
    """The surface `functions`: every function by its name, with names and JSON types of its parameters.

    What is to be learnt is left out: how values are written, deprecated names, confirmations, the default's value.
    """

    def intro(self, tool: Tool) -> str:
        """See `Surface.intro`."""
        return f"The API is called {tool.program}. Answer with one function call."

    def functions(self, tool: Tool) -> tuple[Function, ...]:
        """See `Surface.functions`."""
        return tuple(
            Function(name=function_name(command), parameters=json.dumps(_schema(command))) for command in tool.commands
        )


def _schema(command: Command) -> dict[str, Any]:
    types = {
        parameter.name: {"type": "integer" if parameter.convention.integer else "string"}
        for parameter in command.parameters
    }
    required = [parameter.name for parameter in command.parameters if parameter.default is None]
    return {"type": "object", "properties": types, "required": required}


class _Passed(BaseModel):
    """The arguments of a gateway's one function."""

    model_config = ConfigDict(extra="forbid", strict=True)

    function: str
    arguments: dict[str, Any]


class Gateway(FunctionCalls):
    """The surface `gateway`: one function, named after the tool, which is given another one's name and arguments.

    So a call has the form that the model was trained for, and the declaration names nothing that is to be learnt.
    """

    def intro(self, tool: Tool) -> str:
        """See `Surface.intro`."""
        return (
            f"The API is called {tool.program}. Answer with one call of {tool.program}: it passes arguments on to the "
            "function of the API that you name."
        )

    def functions(self, tool: Tool) -> tuple[Function, ...]:
        """See `Surface.functions`."""
        types = {"function": {"type": "string"}, "arguments": {"type": "object"}}
        schema = {"type": "object", "properties": types, "required": list(types)}
        return (Function(name=tool.program, parameters=json.dumps(schema)),)

    def read(self, tool: Tool, action: str) -> Call:
        """See `Surface.read`."""
        usage = f"usage: {tool.program}(function: string, arguments: object)"
        if len(action) > MAX_CHARACTERS:
            raise CallError("the call is too long", usage)
        try:
            call = FunctionCall.model_validate_json(action)
            passed = _Passed.model_validate(call.arguments)
        except ValidationError as error:
            raise CallError(f"this is no call of {tool.program}", usage) from error
        if call.name != tool.program:
            raise CallError(f"no such function: {call.name}", usage)
        return super().read(tool, json.dumps({"name": passed.function, "arguments": passed.arguments}))

    def write(self, tool: Tool, call: Call) -> str:
        """See `Surface.write`."""
        inner = json.loads(super().write(tool, call))
        arguments = {"function": inner["name"], "arguments": inner["arguments"]}
        return json.dumps({"name": tool.program, "arguments": arguments})
