"""A tool: its commands, their parameters, and the conventions of its values."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

from oel_core.envs.tools.conventions import CONVENTIONS, Argument, Convention, ValueType
from oel_core.envs.tools.kinds import KINDS, SLOT_TYPES, Kind, Role
from oel_core.envs.tools.vocabulary import (
    CONFIRMATIONS,
    FORMER_CONFIRMATION,
    FORMER_OPTIONS,
    OPTIONS,
    THEMES,
    VERBS,
    Theme,
)

Confirmation = Literal["flag", "second_call"]
"""How a command is confirmed: by an argument of the call, or by a separate call."""


@dataclass(frozen=True)
class Parameter:
    """One argument of a command."""

    slot: str
    name: str
    convention: Convention
    positional: bool
    """On the command line; a function call names every argument."""
    default: int | None = None
    """Value if the argument is left out; None if it is required."""

    @property
    def former(self) -> str:
        """Its deprecated name."""
        return FORMER_OPTIONS[self.slot]


@dataclass(frozen=True)
class Command:
    """The command for one kind of request."""

    kind: Kind
    noun: str
    verb: str
    parameters: tuple[Parameter, ...]
    """Positional ones in the order of the command line."""
    confirmation: str | None = None
    """Name of the flag without which the command does nothing."""
    confirmed_by: "Command | None" = None
    """The command that must be called next, or this one does nothing."""


@dataclass(frozen=True)
class Call:
    """A command with its arguments; two calls with the same effect are equal."""

    kind: str
    arguments: tuple[tuple[str, Argument], ...]
    """Slot and value, by slot; defaults filled in."""


@dataclass(frozen=True)
class Tool:
    """A fictional tool, generated from its number."""

    program: str
    theme: Theme
    commands: tuple[Command, ...]
    """By kind of request: common ones first, then `rare` ones."""
    rare: int
    """Number of the last commands that are rarely requested."""

    @property
    def every_command(self) -> tuple[Command, ...]:
        """The commands, and those that confirm some of them."""
        confirming = (command.confirmed_by for command in self.commands)
        return (*self.commands, *(command for command in confirming if command is not None))

    def command(self, kind: str) -> Command:
        """The command of a kind of call. Raises StopIteration for one that it lacks."""
        return next(command for command in self.every_command if command.kind.name == kind)

    def call(self, kind: str, values: dict[str, Any]) -> Call:
        """The right call for the values of a request."""
        parameters = self.command(kind).parameters
        written = {parameter.slot: parameter.convention.write(values[parameter.slot]) for parameter in parameters}
        return Call(kind, tuple(sorted(written.items())))

    def calls(self, kind: str, values: dict[str, Any]) -> tuple[Call, ...]:
        """The calls that serve a request, in order: one, or one and its confirmation."""
        confirming = self.command(kind).confirmed_by
        kinds = [kind] if confirming is None else [kind, confirming.kind.name]
        return tuple(self.call(each, values) for each in kinds)

    def hidden_words(self) -> Iterator[str]:
        """All words of the tool that a player has to learn."""
        for command in self.every_command:
            yield from (command.noun, command.verb)
            yield from (parameter.name for parameter in command.parameters if not parameter.positional)
            if command.confirmation is not None:
                yield command.confirmation


_RARE = 2


@lru_cache(maxsize=64)
def draw_tool(number: int, kinds: int, confirmed: Confirmation = "flag", renamed: int = 0) -> Tool:
    """Tool `number` with that many kinds of request, of which the first `renamed` have another verb.

    Consecutive numbers have different themes. The form of confirmations and other verbs change nothing else of a tool.
    """
    rng = random.Random(f"tool/{number}")
    theme = THEMES[(number - 1) % len(THEMES)]
    program = rng.choice(theme.programs)
    nouns: dict[Role, str] = {role: rng.choice(names) for role, names in theme.nouns.items()}
    styles = {type_: rng.choice(choices) for type_, choices in CONVENTIONS.items()}
    names = {slot: rng.choice(choices) for slot, choices in OPTIONS.items()}
    confirmation = rng.choice(CONFIRMATIONS)
    commands = [_draw_command(kind, nouns, styles, names, confirmation, rng) for kind in KINDS]
    chosen = rng.sample(commands, len(commands))[:kinds]
    chosen[:renamed] = map(_with_next_verb, chosen[:renamed])
    if confirmed == "second_call":
        chosen = [_confirmed_by_call(command) for command in chosen]
    return Tool(program, theme, tuple(chosen), _RARE)


def _draw_command(
    kind: Kind,
    nouns: dict[Role, str],
    styles: dict[ValueType, Convention],
    names: dict[str, str],
    confirmation: str,
    rng: random.Random,
) -> Command:
    verb = rng.choice(VERBS[kind.name])
    first_is_positional = rng.random() < 0.6
    places = kind.slots == ("thing", "source", "target") and rng.random() < 0.7
    default = rng.choice((5, 10, 20))
    parameters = []
    for index, slot in enumerate(kind.slots):
        positional = (index == 0 and first_is_positional) or (places and slot in ("source", "target"))
        convention = styles[SLOT_TYPES[slot]]
        parameters.append(Parameter(slot, names[slot], convention, positional, default if slot == "count" else None))
    if places:  # the target before the source, and both before the thing
        parameters.reverse()
    return Command(kind, nouns[kind.noun], verb, tuple(parameters), confirmation if kind.confirmed else None)


def _with_next_verb(command: Command) -> Command:
    verbs = VERBS[command.kind.name]
    return replace(command, verb=verbs[(verbs.index(command.verb) + 1) % len(verbs)])


def _confirmed_by_call(command: Command) -> Command:
    """The command with a second one in place of its flag: the flag's name as the verb, and the same parameters."""
    if command.confirmation is None:
        return command
    kind = replace(command.kind, name=f"{command.kind.name}_confirmation")
    confirming = Command(kind, command.noun, command.confirmation, command.parameters)
    return replace(command, confirmation=None, confirmed_by=confirming)


def is_former(word: str) -> bool:
    """Whether a word is a deprecated name."""
    return word in FORMER_OPTIONS.values() or word == FORMER_CONFIRMATION
