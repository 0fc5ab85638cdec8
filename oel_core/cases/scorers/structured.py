"""Scorers that compare values: JSON and tool calls."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from oel_core.cases.case import Case
from oel_core.cases.scorers.base import PASS, AnyOf, scorer_options
from oel_core.cases.tool_calls import MAX_CHARACTERS, arguments, calls_in, objects_in
from oel_core.config.section import Section
from oel_core.evaluation.questions import Score
from oel_core.types import ToolCall

_FENCED = re.compile(r"^```[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
_MISSING = object()


class JsonOptions(Section):
    """Options of `json_equal`."""

    ignore: tuple[str, ...] = ()
    """Names of fields to ignore, at any depth."""


def make_json_equal(options: Mapping[str, Any]) -> AnyOf:
    """The JSON in the answer (all of it, its last fenced block, or its last object or array) equals a reference answer.

    The order of fields is ignored; 1 equals 1.0; true does not equal 1.
    """
    ignored = frozenset(scorer_options("json_equal", JsonOptions, options).ignore)

    def same(answer: str, right: str) -> bool:
        wanted = _value(right)
        return wanted is not _MISSING and _comparable(_last_json(answer), ignored) == _comparable(wanted, ignored)

    return AnyOf(same, "the right JSON", "no JSON or another one")


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _MISSING


def _last_json(answer: str) -> Any:
    text = answer[-MAX_CHARACTERS:]
    blocks: list[str] = _FENCED.findall(text if text.endswith("\n") else f"{text}\n")
    whole = (_value(part) for part in (text, *blocks[::-1]))
    return next((value for value in (*whole, *list(objects_in(text))[-1:]) if value is not _MISSING), _MISSING)


def _comparable(value: Any, ignored: frozenset[str]) -> Any:
    """The value without ignored fields, in a form in which == distinguishes booleans from numbers."""
    if isinstance(value, dict):
        return {name: _comparable(each, ignored) for name, each in value.items() if name not in ignored}
    if isinstance(value, list):
        return [_comparable(each, ignored) for each in value]
    return ("truth", value) if isinstance(value, bool) else value


class ToolCallOptions(Section):
    """Options of `tool_call_equal`."""

    ordered: bool = False
    """Whether the order of several calls must agree."""
    ignore: tuple[str, ...] = ()
    """Names of arguments to ignore."""


@dataclass(frozen=True)
class ToolCallEqual:
    """The answer's tool calls equal the reference's, functions and arguments."""

    options: ToolCallOptions
    is_judge: bool = False

    def scores(self, case: Case) -> bool:
        """See `Scorer`. A reference answer must contain calls."""
        return any(calls_in(text) for text in case.texts)

    def score(self, case: Case, answer: str) -> Score:
        """See `Scorer`."""
        made = self._keys(calls_in(answer))
        if not made:
            return Score(0.0, "it calls no function")
        passed = any(made == self._keys(calls_in(text)) for text in case.texts)
        return Score(PASS, "the right calls") if passed else Score(0.0, "other calls than the right ones")

    def _keys(self, calls: list[ToolCall]) -> list[str]:
        ignored = frozenset(self.options.ignore)
        values = [[call.name, _comparable(arguments(call), ignored)] for call in calls]
        keys = [json.dumps(value, sort_keys=True) for value in values]
        return keys if self.options.ordered else sorted(keys)


def make_tool_call_equal(options: Mapping[str, Any]) -> ToolCallEqual:
    """See `ToolCallEqual`."""
    return ToolCallEqual(scorer_options("tool_call_equal", ToolCallOptions, options))
