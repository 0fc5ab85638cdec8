"""The first problem of a record, named by its field and without its value."""

import pytest
from pydantic import ValidationError

from oel_core.text.invalid import described, first_problem
from oel_core.types import Record


class Inner(Record):
    count: int


class Outer(Record):
    inner: tuple[Inner, ...]


def error_of(text: str) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate_json(text)
    return caught.value


def test_the_field_is_dotted_and_the_value_is_not_repeated() -> None:
    found = described(error_of('{"inner": [{"count": "hunter2"}]}'), "the file")
    assert found.startswith("inner.0.count: Input should be a valid integer")
    assert "hunter2" not in found


def test_a_record_that_is_wrong_as_a_whole_is_named_by_the_caller() -> None:
    error = error_of("[")
    assert first_problem(error)[0] == ""
    assert described(error, "the file").startswith("the file: Invalid JSON")


def test_a_fields_name_cannot_steer_a_terminal() -> None:
    found = described(error_of('{"inner": [], "\\u001b[2J": 1}'), "the file")
    assert "\x1b" not in found
    assert "U+001B" in found
