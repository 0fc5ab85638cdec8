"""What a record's validation found, in words."""

from pydantic import ValidationError

from oel_core.text.visible import visible_line


def first_problem(error: ValidationError) -> tuple[str, str]:
    """The field of the first problem, dotted and empty for the record as a whole, and what is wrong with it.

    The offending value is not repeated: it may be secret. Names of fields come from the file, so they are made fit to
    be shown.
    """
    first = error.errors(include_input=False, include_url=False)[0]
    return visible_line(".".join(map(str, first["loc"]))), visible_line(first["msg"])


def described(error: ValidationError, whole: str) -> str:
    """`field: what is wrong`, with `whole` in place of the field where it is the record as a whole."""
    field, reason = first_problem(error)
    return f"{field or whole}: {reason}"
