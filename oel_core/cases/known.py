"""Makes cases of a recorded session: each turn is a request; reference answers come from feedback and later turns."""

import json
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from pydantic_core import from_json

from oel_core.cases.case import Case, RightAnswer, Share
from oel_core.cases.tool_calls import calls_in
from oel_core.policies.text.plain_tools import call_line
from oel_core.runs.manifest import digest_bytes
from oel_core.types import INSTRUCTING, Feedback, Message, Trajectory, Turn

_FAILED_TEXTS = ("error", "traceback (most recent call last)", "exception", "failed", "invalid ")
"""Prefixes of the result of a failed call, in lower case."""
_RIGHT = 1.0


def cases_of(episode: Trajectory, session: str, share: Share, round_index: int) -> list[Case]:
    """A case for every turn of a recorded session. Feedback on a session of several turns as a whole is not used.

    Args:
        session: id of the session in its cases.
        round_index: the round that holds the session out.
    """
    cases = []
    for number, turn in enumerate(episode.turns):
        given = [one for one in turn.given if not one.superseded and not (one.whole and len(episode.turns) > 1)]
        sources = (_from_feedback(given), _from_later_calls(episode.turns[number:]), _approved(turn, given))
        answers = tuple(dict.fromkeys(chain(*sources)))
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


def _from_feedback(given: Sequence[Feedback]) -> Iterator[RightAnswer]:
    for one in given:
        if one.expected:
            yield RightAnswer(kind="expected", text=one.expected)
        if one.correction:
            yield RightAnswer(kind="correction", text=one.correction)


def verdict(given: Sequence[Feedback]) -> float | None:
    """People's verdict on an answer; None if there is none. `given` must not contain superseded feedback.

    The mean of people's scores and thumbs, rounded to right or wrong; a correction counts as wrong.
    """
    people = [one for one in given if one.source == "human"]
    values = [one.score if one.score is not None else one.thumbs for one in people]
    said = [float(value) for value in values if value is not None]
    if said:
        return _RIGHT if sum(said) / len(said) >= _RIGHT else 0.0
    return 0.0 if any(one.correction for one in people) else None


def _approved(turn: Turn, given: Sequence[Feedback]) -> Iterator[RightAnswer]:
    """The tool calls of an approved answer. Approved texts are left out: other texts may be equally right."""
    if verdict(given) == _RIGHT and calls_in(turn.response):
        yield RightAnswer(kind="approved", text=turn.response)


def _from_later_calls(turns: Sequence[Turn]) -> Iterator[RightAnswer]:
    """Later calls of the first turn's functions that succeeded where the first turn's calls failed.

    Only turns before the user's next message are considered.
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
    """Index of the last user message, not counting instructions; -1 if there is none."""
    said = [message for message in messages if message.role not in INSTRUCTING]
    return max((place for place, message in enumerate(said) if message.role == "user"), default=-1)


def _results(turn: Turn, after: Sequence[Turn]) -> list[str]:
    """The results of a turn's calls: the tool messages that the next prompt adds; none for the last turn."""
    if not after:
        return []
    before = sum(message.role == "tool" for message in turn.messages)
    return [message.content for message in after[0].messages if message.role == "tool"][before:]


def _failed(results: Sequence[str]) -> bool:
    return any(map(_is_error, results))


def _is_error(result: str) -> bool:
    """Whether the result of a call reports a failure, by common fields of APIs or by its first words."""
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
