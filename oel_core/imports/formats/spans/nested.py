"""Converts flat attributes with dotted names to nested objects and arrays."""

from collections.abc import Mapping
from typing import Any

from oel_core.runs.jsonl import LineError


def nested(attributes: Mapping[str, Any], field: str) -> dict[str, Any]:
    """`{"a.0.b": 1, "a.1.b": 2}` → `{"a": [{"b": 1}, {"b": 2}]}`; values that are already nested are merged.

    Elements are ordered by their numbers; gaps are closed.

    Raises:
        LineError: a name is both a value and an object, or names are nested too deep.
    """
    tree: dict[str, Any] = {}
    for name, value in attributes.items():
        _put(tree, name.split("."), _tree(value, field, 0), field)
    return {name: _ordered(value) for name, value in tree.items()}


_MAX_DEPTH = 40


def _tree(value: Any, field: str, depth: int) -> Any:
    """A value with nested objects; arrays as objects by position."""
    if depth > _MAX_DEPTH:
        raise LineError(field, f"it is nested more than {_MAX_DEPTH} deep")
    if isinstance(value, list) and any(isinstance(each, Mapping) for each in value):
        value = {str(place): each for place, each in enumerate(value)}
    if not isinstance(value, Mapping):
        return value
    tree: dict[str, Any] = {}
    for name, each in value.items():
        _put(tree, name.split("."), _tree(each, field, depth + 1), field)
    return tree


def _put(tree: dict[str, Any], path: list[str], value: Any, field: str) -> None:
    if len(path) > _MAX_DEPTH:
        raise LineError(field, f"a name has more than {_MAX_DEPTH} parts")
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
        if not isinstance(tree, dict):
            raise LineError(field, f"{'.'.join(path)[:80]} is both a value and an object")
    held = tree.setdefault(path[-1], value)
    if held is value:
        return
    if not isinstance(held, dict) or not isinstance(value, dict):
        raise LineError(field, f"{'.'.join(path)[:80]} is there twice")
    for name, each in value.items():
        _put(held, [name], each, field)


def _ordered(value: Any) -> Any:
    """Converts objects whose keys are numbers to arrays."""
    if not isinstance(value, dict):
        return value
    ordered = {name: _ordered(each) for name, each in value.items()}
    if value and all(name.isascii() and name.isdigit() and len(name) < 10 for name in value):
        return [ordered[name] for name in sorted(ordered, key=int)]
    return ordered
