"""Calls as command lines: split by shlex, parsed by argparse, never executed."""

import argparse
import re
import shlex
from collections.abc import Sequence
from typing import Any, NoReturn

from oel_core.envs.tools.conventions import Argument, Convention
from oel_core.envs.tools.surface import MAX_CHARACTERS, CallError
from oel_core.envs.tools.tool import Call, Command, Parameter, Tool
from oel_core.envs.tools.vocabulary import FORMER_CONFIRMATION
from oel_core.types import Tool as Function


class _Parser(argparse.ArgumentParser):
    """Raises an exception instead of exiting the process."""

    def error(self, message: str) -> NoReturn:
        raise CallError(message, self.usage_line())

    def usage_line(self) -> str:
        return " ".join(self.format_usage().split())


class _Deprecated(argparse.Action):
    """An option whose name is an obvious guess, but deprecated."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        parser.error(f"option {self.option_strings[0]} is deprecated")


class CommandLine:
    """The surface `cli`. See `oel_core.envs.tools.surface.Surface`."""

    def functions(self, tool: Tool) -> tuple[Function, ...]:
        """None: a command line is text."""
        return ()

    def intro(self, tool: Tool) -> str:
        """See `Surface.intro`."""
        return f"The command-line tool is called {tool.program}. Answer with one command line: {tool.program} ..."

    def find(self, tool: Tool, response: str) -> str | None:
        """The last line that begins with the program's name, without a prompt sign or backticks."""
        for line in reversed(response[-MAX_CHARACTERS:].splitlines()):
            text = line.strip().strip("`").removeprefix("$").strip()
            if text.startswith(f"{tool.program} ") and text.isprintable():
                return text
        return None

    def read(self, tool: Tool, action: str) -> Call:
        """See `Surface.read`."""
        if len(action) > MAX_CHARACTERS:
            raise CallError("the line is too long", _nouns(tool))
        try:
            program, *words = shlex.split(action) or [""]
        except ValueError as error:
            raise CallError(f"cannot read the line: {error}", _nouns(tool)) from error
        if program != tool.program:
            raise CallError(f"{program}: no such program", _nouns(tool))
        command = _command(tool, words[:2])
        values = vars(_parser(tool, command).parse_args(words[2:]))
        if command.confirmation is not None and not values.pop("confirmed"):
            raise CallError(f"{command.verb} was not confirmed: nothing was done", _parser(tool, command).usage_line())
        return Call(
            command.kind.name, tuple(sorted((slot, value) for slot, value in values.items() if value is not None))
        )

    def write(self, tool: Tool, call: Call) -> str:
        """Positional arguments first, then options; a default is left out."""
        command, values = tool.command(call.kind), dict(call.arguments)
        words = [tool.program, command.noun, command.verb]
        words += [str(values[parameter.slot]) for parameter in command.parameters if parameter.positional]
        for parameter in command.parameters:
            if not parameter.positional and values[parameter.slot] != parameter.default:
                words += [f"--{parameter.name}", str(values[parameter.slot])]
        return shlex.join(words + ([f"--{command.confirmation}"] if command.confirmation else []))


def _command(tool: Tool, path: Sequence[str]) -> Command:
    noun, verb = [*path, "", ""][:2]
    verbs = {command.verb: command for command in tool.every_command if command.noun == noun}
    if not verbs:
        raise CallError(f"no such command: {noun}", _nouns(tool))
    if verb not in verbs:
        shown = [command.verb for command in tool.commands if command.noun == noun]  # none that only confirms
        raise CallError(f"{noun}: no such command: {verb}", f"usage: {tool.program} {noun} {{{','.join(shown)}}} ...")
    return verbs[verb]


def _nouns(tool: Tool) -> str:
    nouns = dict.fromkeys(command.noun for command in tool.commands)
    return f"usage: {tool.program} {{{','.join(nouns)}}} ..."


def _parser(tool: Tool, command: Command) -> _Parser:
    parser = _Parser(
        prog=f"{tool.program} {command.noun} {command.verb}",
        add_help=False,
        allow_abbrev=False,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, width=1000),
    )
    for parameter in command.parameters:
        read = _reader(parameter.convention)
        if parameter.positional:
            parser.add_argument(parameter.slot, metavar=parameter.name, type=read)
        else:
            _add_option(parser, parameter, read)
    if command.confirmation is not None:
        parser.add_argument(f"--{command.confirmation}", dest="confirmed", action="store_true", help=argparse.SUPPRESS)
        _add_deprecated(parser, FORMER_CONFIRMATION, nargs=0)
    return parser


def _add_option(parser: _Parser, parameter: Parameter, read: Any) -> None:
    required = parameter.default is None
    parser.add_argument(
        f"--{parameter.name}", dest=parameter.slot, type=read, required=required, default=parameter.default
    )
    _add_deprecated(parser, parameter.former, nargs=None)


def _add_deprecated(parser: _Parser, name: str, nargs: int | None) -> None:
    parser.add_argument(
        f"--{name}",
        action=_Deprecated,
        nargs=nargs,
        dest=argparse.SUPPRESS,
        default=argparse.SUPPRESS,
        help=argparse.SUPPRESS,
    )


def _reader(convention: Convention) -> Any:
    def read(text: str) -> Argument:
        if not re.fullmatch(convention.pattern or "[0-9]{1,12}", text):
            raise argparse.ArgumentTypeError(f"invalid value: {text!r}")
        return int(text) if convention.integer else text

    return read
