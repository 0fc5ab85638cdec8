"""Feedback that clients give after an answer, and what of it counts in the end."""

from collections.abc import Mapping, Sequence
from typing import Any

from oel_core.imports.feedback import feedback
from oel_core.imports.fields import text
from oel_core.imports.records import Feedback
from oel_core.runs.jsonl import LineError
from oel_core.types import Record

VALUES: Mapping[str, object] = {
    "score": None,
    "thumbs": None,
    "label": "",
    "comment": "",
    "correction": "",
    "expected": "",
    "rubric": "",
}
"""Fields of `Feedback` that say something → what they are where it says nothing."""
LONGEST = 65536
"""Characters of one text."""


class Given(Record):
    """Feedback with what it is about."""

    response: str = ""
    """Id of the answer; empty: the session."""
    session: str = ""
    user: str = ""
    """Who gave it, in the client's words."""
    feedback: Feedback


def parse_given(body: Mapping[str, Any], top_score: float) -> Given:
    """`{response_id | session_id, user, name, source, score, thumbs, label, comment, correction, expected, rubric}`.

    Raises:
        LineError: it is about nothing, says nothing, or a value cannot be used.
    """
    response, session = _id(body, "response_id"), _id(body, "session_id")
    if bool(response) == bool(session):
        raise LineError("response_id", "give either response_id or session_id")
    unknown = body.keys() - {"response_id", "session_id", "user", "name", "source", *VALUES}
    if unknown:
        raise LineError(sorted(unknown)[0], f"no such field: there are {', '.join(VALUES)}, user, name and source")
    for name, value in body.items():
        if name not in ("score", "thumbs") and not (isinstance(value, str | None) and len(value or "") <= LONGEST):
            raise LineError(name, f"it must be a text of at most {LONGEST} characters")
    (said,) = feedback({name: value for name, value in body.items() if value is not None}, "")
    _require_said(said, body, top_score)
    return Given(
        response=response,
        session=session,
        user=text(body.get("user")),
        feedback=said.model_copy(update={"whole": bool(session)}),
    )


def _require_said(said: Feedback, body: Mapping[str, Any], top_score: float) -> None:
    if body.get("score") is not None and (said.score is None or not 0 <= said.score <= top_score):
        raise LineError("score", f"it must be a number from 0 to {top_score:g} (serve.top_score)")
    if body.get("thumbs") is not None and said.thumbs is None:
        raise LineError("thumbs", "it must be up or down")
    if not any(getattr(said, name) != nothing for name, nothing in VALUES.items()):
        raise LineError("", f"it says nothing: give one of {', '.join(VALUES)}")


def _id(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise LineError(name, "it must be a text")
    return value or ""


def settled(given: Sequence[Given]) -> list[Feedback]:
    """The feedback about one answer, or about one session, in order; what was said again later is superseded.

    Later words replace earlier ones of the same user, source and name value by value: a comment does not take back the
    thumb before it. Feedback of which nothing is left is marked as superseded.
    """
    later: dict[tuple[str, str, str], set[str]] = {}
    found = []
    for one in reversed(given):
        said = one.feedback
        replaced = later.setdefault((one.user, said.source, said.name), set())
        mine = {name for name, nothing in VALUES.items() if getattr(said, name) != nothing}
        if mine <= replaced:
            found.append(said.model_copy(update={"superseded": True}))
        else:
            found.append(said.model_copy(update={name: VALUES[name] for name in mine & replaced}))
        replaced |= mine
    return found[::-1]
