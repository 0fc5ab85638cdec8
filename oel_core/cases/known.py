"""From a recorded session to its cases: each turn is a request, and feedback and later turns say what was right."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic_core import from_json

from oel_core.cases.case import Case, RightAnswer, Share
from oel_core.cases.tool_calls import calls_in
from oel_core.policies.text.plain_tools import call_line
from oel_core.runs.manifest import digest_bytes
from oel_core.types import INSTRUCTING, Feedback, Message, Trajectory, Turn

_FAILED_TEXTS = ("error", "traceback (most recent call last)", "exception", "failed", "invalid ")
"""How the result of a call begins that failed, in lower case."""
_RIGHT = 1.0


def cases_of(episode: Trajectory, session: str, share: Share, round_index: int) -> list[Case]:
    """A case for every turn of a recorded session. What was said about several turns as a whole is about none of them.

    Args:
        session: what the session's cases have in common.
        round_index: the round that sets the session apart.
    """
    cases = []
    for number, turn in enumerate(episode.turns):
        given = [one for one in turn.given if not one.superseded and not (one.whole and len(episode.turns) > 1)]
        answers = tuple(dict.fromkeys([*_said(given), *_succeeded(episode.turns[number:]), *_approved(turn, given)]))
        rubrics = tuple(dict.fromkeys(one.rubric for one in given if one.rubric))
        known = [turn.model_dump_json(include={"messages"}), *(answer.text for answer in answers), *rubrics]
        cases.append(
            Case(
                id=f"case-{digest_bytes(json.dumps([session, number, known]).encode())}",
                share=share,
                session=session,
                round=round_index,
                messages=turn.messages,
                answers=answers,
                rubrics=rubrics,
                recorded=turn.response,
                verdict=verdict(given),
            )
        )
    return cases


def _said(given: Sequence[Feedback]) -> Iterator[RightAnswer]:
    for one in given:
        if one.expected:
            yield RightAnswer(kind="expected", text=one.expected)
        if one.correction:
            yield RightAnswer(kind="correction", text=one.correction)


def verdict(given: Sequence[Feedback]) -> float | None:
    """What people thought of an answer; None where nobody said. `given` has nothing that is superseded.

    The mean of people's scores and thumbs, rounded to right or wrong; who corrects an answer says it was wrong.
    """
    people = [one for one in given if one.source == "human"]
    values = [one.score if one.score is not None else one.thumbs for one in people]
    said = [float(value) for value in values if value is not None]
    if said:
        return _RIGHT if sum(said) / len(said) >= _RIGHT else 0.0
    return 0.0 if any(one.correction for one in people) else None


def _approved(turn: Turn, given: Sequence[Feedback]) -> Iterator[RightAnswer]:
    """The calls of an answer that people called right. Text is left out: others that say the same are as right."""
    if verdict(given) == _RIGHT and calls_in(turn.response):
        yield RightAnswer(kind="approved", text=turn.response)


def _succeeded(turns: Sequence[Turn]) -> Iterator[RightAnswer]:
    """Calls of the same functions as the first turn's, in a later turn, that succeeded where the first turn's failed.

    The user has said nothing in between: what somebody asks for next is another request.
    """
    wanted = [call.name for call in calls_in(turns[0].response)]
    if not wanted or not _failed(_results(turns[0], turns[1:])):
        return
    for place, turn in enumerate(turns[1:], start=1):
        if _last_user(turn.messages) != _last_user(turns[0].messages):
            return
        calls = calls_in(turn.response)
        results = _results(turn, turns[place + 1 :])
        if [call.name for call in calls] == wanted and results and not _failed(results):
            yield RightAnswer(kind="succeeded", text="\n".join(map(call_line, calls)))
            return


def _last_user(messages: Sequence[Message]) -> int:
    """Where the user spoke last, counted without instructions; -1 for never."""
    said = [message for message in messages if message.role not in INSTRUCTING]
    return max((place for place, message in enumerate(said) if message.role == "user"), default=-1)


def _results(turn: Turn, after: Sequence[Turn]) -> list[str]:
    """The results of a turn's calls: the tool messages that the next prompt adds. None where the session ends there."""
    if not after:
        return []
    before = sum(message.role == "tool" for message in turn.messages)
    return [message.content for message in after[0].messages if message.role == "tool"][before:]


def _failed(results: Sequence[str]) -> bool:
    return any(map(_is_error, results))


def _is_error(result: str) -> bool:
    """Whether the result of a call reports a failure, by the fields that APIs use for it or by its first words."""
    try:
        value: Any = from_json(result)
    except ValueError:
        return result.lstrip().lower().startswith(_FAILED_TEXTS)
    if isinstance(value, str):
        return value.lstrip().lower().startswith(_FAILED_TEXTS)
    if not isinstance(value, dict):
        return False
    code = value.get("status_code", value.get("status", value.get("code")))
    return bool(
        value.get("error")
        or value.get("errors")
        or value.get("isError") is True
        or value.get("is_error") is True
        or value.get("success") is False
        or value.get("ok") is False
        or (isinstance(code, str) and code.lower() in ("error", "failed", "failure"))
        or (isinstance(code, int) and not isinstance(code, bool) and 400 <= code < 600)
    )
