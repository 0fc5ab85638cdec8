"""The only reader and writer of YAML: a strict YAML 1.2 with its core schema (yaml.org/spec/1.2.2, section 10.3).

PyYAML parses the structure of a text; scalars are resolved here, because PyYAML follows YAML 1.1, where `010` is 8,
`1:30` is 90 and `no` is false. Duplicate keys, tags outside the core schema, and non-finite numbers are rejected with
their line.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from oel_core.errors import ConfigError
from oel_core.text.visible import visible

MAX_BYTES: Final = 2**20
MAX_DEPTH: Final = 32
MAX_VALUES: Final = 20_000
"""Limits of a text: far above any configuration, far below what aliases in a malicious one could allocate. 100
characters count as one more value."""

Place = tuple[str | int, ...]
"""Keys and list positions on the way to a value."""

_TAG = "tag:yaml.org,2002:"
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
NULL: Final = ("", "~", "null", "Null", "NULL")
_BOOL: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_OTHER_LINE_ENDS = re.compile("[\r\x85\u2028\u2029]")
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class YamlText:
    """The values of a text with their positions."""

    source: str
    """The file's path or the preset's name, for messages."""
    values: Any
    """Mappings with text keys, lists, str, int, float, bool and None."""
    lines: Mapping[Place, int] = field(default_factory=dict)
    """Path of a value → line of its key, from 1. Values of an alias are at the alias's line."""

    def where(self, place: Place) -> str:
        """The source, with the line of the value at `place` or of its nearest container with a line."""
        for end in range(len(place), 0, -1):
            if place[:end] in self.lines:
                return f"{self.source}, line {self.lines[place[:end]]}"
        return self.source

    def mapping(self) -> dict[str, Any]:
        """The values of a text that must be a mapping; empty for an empty text. Raises ConfigError."""
        if self.values is None:
            return {}
        if not isinstance(self.values, dict):
            raise ConfigError(f"{self.source}, line 1: must hold names with values, like rounds: 3")
        return self.values


def read_yaml(path: Path) -> YamlText:
    """The values of a UTF-8 file.

    Raises:
        ConfigError: the file cannot be read, is not UTF-8, or as `parse_yaml`.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path} has more than {MAX_BYTES} bytes: it is no configuration")
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    try:
        return parse_yaml(data.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{path}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8: save the file as UTF-8 text"
        ) from error


def parse_yaml(text: str, source: str) -> YamlText:
    """The values of one document; None for an empty one.

    Raises:
        ConfigError: the text is not YAML, or not in this subset; the message has source and line.
    """
    try:
        reader = _Reader(source, yaml.parse(text, Loader=yaml.SafeLoader))
        return YamlText(source, reader.document(), reader.lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark is not None else ""
        raise ConfigError(f"{source}{line}: not YAML: {error.problem or error.context}") from error
    except yaml.reader.ReaderError as error:
        line_number = text.count("\n", 0, error.position) + 1
        raise ConfigError(
            f"{source}, line {line_number}: the character U+{ord(text[error.position]):04X} may not stand in YAML"
        ) from error
    except (ValueError, OverflowError) as error:  # PyYAML reads the numbers of escapes and directives unchecked
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{source}: not YAML: {error}") from error


class _Reader:
    """Builds values from PyYAML's events, in one pass with bounded depth and size."""

    def __init__(self, source: str, events: Iterator[yaml.Event]) -> None:
        self.lines: dict[Place, int] = {}
        self._source = source
        self._events = events
        self._values = 0
        self._anchors: dict[str, tuple[Any, int]] = {}
        """Anchor → its value and how many values that holds."""

    def document(self) -> Any:
        event = self._next_but(yaml.StreamStartEvent, yaml.DocumentStartEvent)
        if isinstance(event, yaml.StreamEndEvent):
            return None
        value = self._value(event, ())
        after = self._next_but(yaml.DocumentEndEvent)
        if not isinstance(after, yaml.StreamEndEvent):
            raise self._refused(after, "a second document begins: write one only")
        return value

    def _next_but(self, *kinds: type[yaml.Event]) -> yaml.Event:
        """The next event of another kind."""
        return next(event for event in self._events if not isinstance(event, kinds))

    def _value(self, event: Any, place: Place) -> Any:
        if len(place) > MAX_DEPTH:
            raise self._refused(event, f"nested more than {MAX_DEPTH} deep")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        before = self._values
        self._count(event, 1)
        value = self._build(event, place)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, self._values - before)
        return value

    def _build(self, event: Any, place: Place) -> Any:
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        if event.tag not in (None, "!", _TAG + ("map" if is_mapping else "seq")):
            raise self._refused(event, f"the tag {_shown_tag(event.tag)} is not supported: leave it out")
        return self._mapping(place) if is_mapping else self._sequence(place)

    def _alias(self, event: yaml.AliasEvent) -> Any:
        if event.anchor not in self._anchors:
            raise self._refused(event, f"the alias *{event.anchor} has no anchor before it")
        value, size = self._anchors[event.anchor]
        self._count(event, size)
        return deepcopy(value)

    def _count(self, event: yaml.Event, more: int) -> None:
        self._values += more
        if self._values > MAX_VALUES:
            raise self._refused(event, f"more than {MAX_VALUES} values, aliases spelt out: it is no configuration")

    def _sequence(self, place: Place) -> list[Any]:
        values: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            here = (*place, len(values))
            self.lines[here] = _line(event)
            values.append(self._value(event, here))
        return values

    def _mapping(self, place: Place) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._value(event, (*place, "")) if isinstance(event, yaml.ScalarEvent | yaml.AliasEvent) else None
            if not isinstance(key, str):
                shown = f"the key {event.value}" if isinstance(event, yaml.ScalarEvent) else "a key"
                raise self._refused(event, f"{shown} is not text: put it in quotes if it is meant")
            here = (*place, key)
            if key in values:
                raise self._refused(
                    event, f"{'.'.join(map(str, here))} is given twice, first in line {self.lines[here]}"
                )
            self.lines[here] = _line(event)
            values[key] = self._value(next(self._events), here)
        return values

    def _scalar(self, event: yaml.ScalarEvent) -> Any:
        if _SURROGATE.search(event.value):
            raise self._refused(event, "half of a surrogate pair is no character: write the whole character")
        self._count(event, len(event.value) // 100)
        try:
            if event.tag is not None:
                return _tagged(event.tag, event.value)
            return plain_value(event.value) if event.style is None else event.value
        except ValueError as error:
            raise self._refused(event, str(error)) from error

    def _refused(self, event: yaml.Event, problem: str) -> ConfigError:
        return ConfigError(f"{self._source}, line {_line(event)}: {problem}")


def plain_value(text: str) -> str | int | float | bool | None:
    """The value of an unquoted scalar in the core schema.

    Raises:
        ValueError: a number that is not finite, or too long.
    """
    if text in NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.fullmatch(text):
        return _int(text)
    if _NOT_FINITE.fullmatch(text):
        raise ValueError(f"{text} is not a finite number: where a setting may be left open, write null")
    return _float(text) if _FLOAT.fullmatch(text) else text


def _int(text: str) -> int:
    if len(text) > 100:
        raise ValueError(f"a number of {len(text)} characters is none that a setting can have")
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


def _float(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:40]} is beyond what a number can hold")
    return number


def _tagged(tag: str, text: str) -> Any:
    """A scalar with an explicit tag. Raises ValueError if the text does not match the tag."""
    if tag in ("!", _TAG + "str"):
        return text
    kinds: dict[str, type | tuple[type, ...]] = {"int": int, "float": (int, float), "bool": bool, "null": type(None)}
    kind = kinds.get(tag.removeprefix(_TAG))
    if kind is None:
        raise ValueError(f"the tag {_shown_tag(tag)} is not supported: leave it out")
    value = plain_value(text)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"'{text[:40]}' does not fit its tag {_shown_tag(tag)}")
    return float(value) if tag == _TAG + "float" and isinstance(value, int | float) else value


def _shown_tag(tag: str) -> str:
    return f"!!{tag.removeprefix(_TAG)}" if tag.startswith(_TAG) else tag


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark is not None else 1


class _Dumper(yaml.SafeDumper):
    """Quotes text that a reader of YAML 1.1 or 1.2 would parse as another type."""


def _also_quoted(pattern: re.Pattern[str], tag: str) -> None:
    add: Callable[..., None] = _Dumper.add_implicit_resolver
    add(_TAG + tag, re.compile(f"^(?:{pattern.pattern})$"), list("-+.0123456789"))


_also_quoted(_INT, "int")
_also_quoted(_FLOAT, "float")


def _text_node(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Line ends other than a line feed survive only in the double-quoted style."""
    return dumper.represent_scalar(_TAG + "str", text, style='"' if _OTHER_LINE_ENDS.search(text) else None)


_Dumper.add_representer(str, _text_node)


def dump_yaml(values: Any) -> str:
    """YAML that `parse_yaml` reads back unchanged; invisible characters are escaped."""
    text: str = yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text if visible(text) == text else yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=False)
