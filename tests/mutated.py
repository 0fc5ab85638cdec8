"""Hypothesis strategies for lines that resemble records: edited, buggy or damaged ones."""

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

ODD: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from([10**400, -1, "\ud800", "\x1b[2J", "\u202e", [], {}, [[]], {"role": "user"}, "NaN", 1e400]),
)


def lines_like(examples: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Arbitrary bytes, arbitrary JSON, and the examples with bytes or values changed; none holds a line end."""
    values = [json.loads(example) for example in examples]
    return st.one_of(
        st.binary(max_size=60),
        st.recursive(ODD, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner)).map(
            _dumped
        ),
        st.builds(_cut, st.sampled_from(examples), st.integers(0), st.binary(max_size=4)),
        st.builds(_changed, st.sampled_from(values), st.integers(0), ODD).map(_dumped),
    ).map(lambda line: line.replace(b"\n", b" "))


def _dumped(value: Any) -> bytes:
    return json.dumps(value).encode()


def _cut(line: bytes, place: int, inserted: bytes) -> bytes:
    at = place % (len(line) + 1)
    return line[:at] + inserted + line[at + len(inserted) :]


def _changed(value: Any, place: int, odd: Any) -> Any:
    """With one entry replaced, deep or shallow."""
    if isinstance(value, dict) and value and place % 7:
        name = sorted(value)[place % len(value)]
        return {**value, name: _changed(value[name], place // len(value), odd)}
    if isinstance(value, list) and value and place % 7:
        at = place % len(value)
        return [*value[:at], _changed(value[at], place // len(value), odd), *value[at + 1 :]]
    return odd
