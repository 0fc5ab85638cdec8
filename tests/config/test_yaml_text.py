"""The YAML reader: version 1.2's core schema, unique keys, limits, and errors with lines."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oel_core.config.yaml_text import MAX_DEPTH, dump_yaml, parse_yaml, read_yaml
from oel_core.errors import ConfigError

VALUES = {
    "010": 10,
    "0o10": 8,
    "0x1F": 31,
    "+7": 7,
    "1e-4": 1e-4,
    ".5": 0.5,
    "2.": 2.0,
    "1:30": "1:30",
    "1_000": "1_000",
    "0x_": "0x_",
    "0b11": "0b11",
    "2020-99-99": "2020-99-99",
    "yes": "yes",
    "off": "off",
    "N": "N",
    "True": True,
    "FALSE": False,
    "~": None,
    "": None,
    "Null": None,
    "inf": "inf",
    "nan": "nan",
    "=": "=",
    "!!str 12": "12",
    "! 12": "12",
    "!!float 3": 3.0,
    '"12"': "12",
    "'~'": "~",
    "{<<: {b: 1}}": {"<<": {"b": 1}},
}


@pytest.mark.parametrize("text", VALUES)
def test_a_value_means_what_yaml_1_2_says(text: str) -> None:
    value = parse_yaml(f"a: {text}", "f").values["a"]
    assert value == VALUES[text]
    assert type(value) is type(VALUES[text])


REFUSED = {
    "a: 1\nb: 2\na: 3": "line 3: a is given twice, first in line 1",
    "a:\n  b: 1\n  'b': 2": r"line 3: a\.b is given twice, first in line 2",
    "a: .inf": "line 1: .inf is not a finite number",
    "a:\n- .NaN": "line 2: .NaN is not a finite number",
    "a: 1e999": "line 1: 1e999 is beyond",
    f"\na: {'9' * 5000}": "line 2: a number of 5000 characters",
    "a: !!int x": "line 1: 'x' does not fit its tag !!int",
    "a: !!bool 1": "line 1: '1' does not fit its tag !!bool",
    "a: !!binary YQ==": "line 1: the tag !!binary is not supported",
    "a: !!python/object/apply:os.getcwd []": "line 1: the tag !!python/object/apply:os.getcwd is not supported",
    "a: 1\n---\nb: 2": "line 2: a second document begins",
    "1: a": "line 1: the key 1 is not text",
    "? [a]\n: 1": "line 1: a key is not text",
    "a: &x [*x]": r"line 1: the alias \*x has no anchor before it",
    "a:\n\tb: 1": "line 2: not YAML: found character",
    "a: [1": "line 1: not YAML",
    "a: 1\nb: \x00": "line 2: the character U\\+0000 may not stand in YAML",
    'a: "\\ud800"': "line 1: half of a surrogate pair",
    'a: "\\UFFFFFFFF"': "f: not YAML",
    "%YAML 1." + "1" * 5000 + "\n---\na": "f: not YAML",
    "a: " + "[" * (MAX_DEPTH + 1): f"line 1: nested more than {MAX_DEPTH} deep",
    "a: " + "[" * 10_000: "line 1: nested more than",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_refused_is_named_with_its_line(text: str) -> None:
    with pytest.raises(ConfigError, match=REFUSED[text]):
        parse_yaml(text, "f")


def test_aliases_are_copies_and_cannot_grow_without_bound() -> None:
    values = parse_yaml("a: &x {b: 1}\nc: *x", "f").values
    values["a"]["b"] = 2
    assert values["c"] == {"b": 1}
    names = "abcdefghij"
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{name}: &{name} [{', '.join(['*' + before] * 10)}]\n" for before, name in pairwise(names)
    )
    with pytest.raises(ConfigError, match="line 5: more than 20000 values"):
        parse_yaml(bomb, "f")
    with pytest.raises(ConfigError, match="more than 20000 values"):
        parse_yaml(f"a: &a {'x' * 500_000}\nb: [*a, *a, *a, *a, *a]", "f")


def test_a_value_knows_its_line() -> None:
    text = parse_yaml("a:\n  b:\n  - 1\n  - {c: 2}\n", "f")
    assert text.where(("a", "b", 1, "c")) == "f, line 4"
    assert text.where(("a", "b", 1, "no", "such")) == "f, line 4"
    assert text.where(("x",)) == "f"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"a: 1\nb: \xdf\n", "line 2: byte 0xdf is not UTF-8"),
        (b"a: 1\n" * 300_000, "bytes: it is no configuration"),
    ],
)
def test_files_that_are_no_text_of_this_kind_are_refused(data: bytes, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=problem):
        read_yaml(path)


def test_a_folder_a_missing_file_and_a_byte_order_mark(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_yaml(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_yaml(tmp_path / "none.yaml")
    (tmp_path / "mark.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_yaml(tmp_path / "mark.yaml").values == {"a": 1}


_TEXT = st.one_of(st.sampled_from([*VALUES, "1e5", "-0x1", "a #b", " a", "<<", "\x07", "\u2028", "'"]), st.text())
_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), _TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_TEXT, inner, max_size=4)),
    max_leaves=12,
)


@given(_VALUES)
def test_what_is_written_is_read_back_as_it_was(value: Any) -> None:
    read = parse_yaml(dump_yaml({"a": value}), "f").values["a"]
    assert read == value
    assert repr(read) == repr(value), "types too: 1 is not 1.0 and not true"
