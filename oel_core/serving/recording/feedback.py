"""Feedback of clients on answers: validation, and resolution of repeated feedback."""

from collections.abc import Mapping, Sequence
from typing import Any

from oel_core.imports.feedback import feedback
from oel_core.imports.fields import text
from oel_core.imports.records import Feedback
from oel_core.runs.jsonl import LineError
from oel_core.types import Record

EMPTY: Mapping[str, object] = {
    "score": None,
    "thumbs": None,
    "label": "",
    "comment": "",
    "correction": "",
    "expected": "",
    "rubric": "",
}
"""Fields of `Feedback` with content → their empty values."""
MAX_CHARACTERS = 65536
"""Of one text."""


class ClientFeedback(Record):
    """Feedback and the answer or session that it is about."""

    response: str = ""
    """Id of the answer; empty for feedback on the session."""
    session: str = ""
    user: str = ""
    """The client's id of the user who gave it."""
    source_id: str = ""
    """What tells it from all other feedback where it may come again; empty where it comes once."""
    feedback: Feedback


def parse_feedback(body: Mapping[str, Any], top_score: float) -> ClientFeedback:
    """`{response_id | session_id, user, name, source, score, thumbs, label, comment, correction, expected, rubric}`.

    Raises:
        LineError: it names no answer or session, has no content, or a value is invalid.
    """
    response, session = _id(body, "response_id"), _id(body, "session_id")
    if bool(response) == bool(session):
        raise LineError("response_id", "give either response_id or session_id")
    unknown = body.keys() - {"response_id", "session_id", "user", "name", "source", *EMPTY}
    if unknown:
        raise LineError(sorted(unknown)[0], f"no such field: there are {', '.join(EMPTY)}, user, name and source")
    for name, value in body.items():
        if name not in ("score", "thumbs") and not (
            isinstance(value, str | None) and len(value or "") <= MAX_CHARACTERS
        ):
            raise LineError(name, f"it must be a text of at most {MAX_CHARACTERS} characters")
    (said,) = feedback({name: value for name, value in body.items() if value is not None}, "")
    _require_said(said, body, top_score)
    return ClientFeedback(
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
    if not any(getattr(said, name) != empty for name, empty in EMPTY.items()):
        raise LineError("", f"it says nothing: give one of {', '.join(EMPTY)}")


def _id(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise LineError(name, "it must be a text")
    return value or ""


def effective_feedback(given: Sequence[ClientFeedback]) -> list[Feedback]:
    """The feedback on one answer, or on one session, in order, after repeated feedback is resolved.

    Later feedback of the same user, source and name replaces earlier feedback field by field: a comment does not remove
    an earlier thumb. Feedback with no field left is marked as superseded.
    """
    later: dict[tuple[str, str, str], set[str]] = {}
    found = []
    for one in reversed(given):
        said = one.feedback
        replaced = later.setdefault((one.user, said.source, said.name), set())
        mine = {name for name, empty in EMPTY.items() if getattr(said, name) != empty}
        if mine <= replaced:
            found.append(said.model_copy(update={"superseded": True}))
        else:
            found.append(said.model_copy(update={name: EMPTY[name] for name in mine & replaced}))
        replaced |= mine
    return found[::-1]
