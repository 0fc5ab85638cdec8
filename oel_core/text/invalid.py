"""Validation errors of records as text."""

from pydantic import ValidationError

from oel_core.text.visible import visible_line


def first_problem(error: ValidationError) -> tuple[str, str]:
    """The field of the first problem, dotted and empty for the record as a whole, and the problem itself.

    The invalid value is not repeated, because it may be secret. Field names come from the file, so they are escaped.
    """
    first = error.errors(include_input=False, include_url=False)[0]
    return visible_line(".".join(map(str, first["loc"]))), visible_line(first["msg"])


def described(error: ValidationError, whole: str) -> str:
    """`field: problem`, with `whole` in place of the field if the record as a whole is invalid."""
    field, reason = first_problem(error)
    return f"{field or whole}: {reason}"
