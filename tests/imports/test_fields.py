"""Values of foreign documents: times, flat names, and lines that belong together."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oel_core.imports.fields import moment
from oel_core.imports.formats.claude_code import groups
from oel_core.imports.formats.spans.nested import nested
from oel_core.runs.jsonl import LineError
from tests.mutated import ODD

TIMES = st.datetimes(datetime(1980, 1, 1), datetime(2200, 1, 1)).map(lambda time: time.replace(microsecond=0))


@given(TIMES, st.sampled_from([1, 10**3, 10**6, 10**9]), st.booleans())
def test_a_time_is_told_whatever_its_unit(time: datetime, unit: int, as_text: bool) -> None:
    seconds = time.replace(tzinfo=UTC).timestamp()
    number = int(seconds) * unit
    assert moment(str(number) if as_text else number) == pytest.approx(seconds)


@given(TIMES)
def test_a_time_without_an_offset_is_utc(time: datetime) -> None:
    written = time.isoformat()
    assert moment(written) == moment(f"{written}Z") == moment(f"{written}.000000000+00:00")
    assert moment(written) == moment(f"{(time + timedelta(hours=2)).isoformat()}+02:00")


@given(ODD)
def test_what_is_no_time_is_none(value: Any) -> None:
    assert moment(value) is None or isinstance(value, (int, float, str))


@pytest.mark.parametrize("value", ["", "soon", 0, -1, True, "0001-01-01T00:00:00+23:59", "9" * 21])
def test_no_time_is_said(value: Any) -> None:
    assert moment(value) is None


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.text(max_size=3)),
    lambda inner: (
        st.lists(inner.map(lambda value: {"x": value}), min_size=1, max_size=3)
        | st.dictionaries(st.sampled_from("abc"), inner, min_size=1, max_size=3)
    ),
    max_leaves=8,
)


def flat(value: Any, name: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return {path: leaf for key, each in value.items() for path, leaf in flat(each, f"{name}.{key}").items()}
    if isinstance(value, list):
        return {path: leaf for place, each in enumerate(value) for path, leaf in flat(each, f"{name}.{place}").items()}
    return {name: value}


@given(VALUES, st.randoms())
def test_flat_names_give_back_the_document_in_any_order(value: Any, random: Any) -> None:
    names = list(flat(value, "root").items())
    random.shuffle(names)
    assert nested(dict(names), "x") == nested({"root": value}, "x") == {"root": value}


def test_gaps_close_and_numbers_order_elements() -> None:
    assert nested({"a.10.b": 3, "a.2.b": 1, "a.2.c": 2}, "x") == {"a": [{"b": 1, "c": 2}, {"b": 3}]}


@pytest.mark.parametrize("attributes", [{"a": 1, "a.b": 2}, {"a.b": 2, "a": 1}, {".".join("a" * 99): 1}])
def test_names_that_contradict_are_refused(attributes: dict[str, Any]) -> None:
    with pytest.raises(LineError):
        nested(attributes, "x")


UUIDS = st.sampled_from([None, "", "a", "b", "c", "d"])
ROWS = st.fixed_dictionaries({}, optional={"uuid": UUIDS, "parentUuid": UUIDS}) | ODD


@given(st.lists(ROWS, min_size=1, max_size=12))
def test_every_line_is_in_one_tree(rows: list[Any]) -> None:
    lines = list(enumerate(rows, start=1))
    found = groups(lines)
    assert all(found)
    assert sorted((number for group in found for number, _ in group)) == [number for number, _ in lines]
