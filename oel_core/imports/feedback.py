"""Parses feedback of logs and forms, and computes an episode's reward from it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from oel_core.imports.fields import first, mapping, number, text
from oel_core.imports.records import Feedback

_THUMBS = {"up": True, "down": False, "true": True, "false": False, "👍": True, "👎": False}
_RANK = ("human", "code", "judge")
"""Priority of sources: the scores of the first one present are used."""
_SOURCES = {"human": "human", "user": "human", "annotation": "human", "judge": "judge", "llm_judge": "judge"} | {
    "llm": "judge",
    "model": "judge",
    "code": "code",
    "eval": "code",
}


def source(value: Any, otherwise: str = "human") -> str:
    """The source of feedback from a format's name for it; `otherwise` if unknown."""
    return _SOURCES.get(text(value).lower(), otherwise)


def feedback(value: Any, field: str) -> list[Feedback]:
    """`{score, thumbs, label, comment, correction, expected, rubric, name, source}`, all optional, or a list of
    such; a bare number is a score and a bare text a comment.

    Raises:
        LineError: it has none of these forms.
    """
    if value is None:
        return []
    if isinstance(value, list):
        return [one for place, each in enumerate(value) for one in feedback(each, f"{field}.{place}")]
    if isinstance(value, bool):
        return [Feedback(source="human", thumbs=value)]
    if isinstance(value, (int, float)):
        return [Feedback(source="human", score=number(value))]
    if isinstance(value, str):
        return [Feedback(source="human", comment=value)]
    said = mapping(value, field)
    return [
        Feedback(
            source=source(said.get("source")),  # type: ignore[arg-type]
            name=text(first(said, "name", "key")),
            score=number(first(said, "score", "rating", "value")),
            thumbs=_THUMBS.get(text(first(said, "thumbs", "thumb")).lower()),
            label=text(said.get("label")),
            comment=text(first(said, "comment", "rationale", "explanation")),
            correction=text(said.get("correction")),
            expected=text(first(said, "expected", "expected_answer")),
            rubric=text(first(said, "rubric", "guidelines", "criteria")),
            superseded=said.get("superseded") is True,
        )
    ]


def reward(given: Sequence[Feedback], top_score: float) -> float:
    """The mean of the scores (a thumb is 1 or 0) of the source with the highest priority; 0 without feedback.

    Feedback on the session precedes feedback on single answers; a human precedes code, code precedes a judge.

    Args:
        top_score: the source's best score, by which scores are divided, so that 1 is a pass.
    """
    values = [(one, _value(one, top_score)) for one in given if not one.superseded]
    scored = [(one, value) for one, value in values if value is not None]
    if any(one.whole for one, _ in scored):
        scored = [(one, value) for one, value in scored if one.whole]
    for who in _RANK:
        found = [value for one, value in scored if one.source == who]
        if found:
            return sum(found) / len(found)
    return 0.0


def summary(given: Sequence[Sequence[Feedback]], top_score: float) -> tuple[float, str]:
    """The reward of a session and what was said about it, from the feedback on each of its answers."""
    said = [(turn, one) for turn, answer in enumerate(given, start=1) for one in answer]
    lines = described((None if one.whole else turn, one) for turn, one in said)
    return reward([one for _, one in said], top_score), lines


def scaled(one: Feedback, top_score: float) -> Feedback:
    """The feedback with its score divided by `top_score`."""
    return one if one.score is None else one.model_copy(update={"score": one.score / top_score})


def _value(one: Feedback, top_score: float) -> float | None:
    if one.score is not None:
        return one.score / top_score
    return None if one.thumbs is None else float(one.thumbs)


def described(given: Iterable[tuple[int | None, Feedback]]) -> str:
    """One line per feedback with content: source, number of the answer (from 1; None: the session), content."""
    return "\n".join(filter(None, (_line(turn, one) for turn, one in given if not one.superseded)))


def _line(turn: int | None, one: Feedback) -> str:
    """Empty for feedback without content."""
    about = "the conversation" if turn is None else f"answer {turn}"
    thumbs = None if one.thumbs is None else "thumbs up" if one.thumbs else "thumbs down"
    score = None if one.score is None else f"score {one.score:g}"
    said: Mapping[str, str] = {
        "": ", ".join(filter(None, [score, thumbs, one.label])),
        "comment": one.comment,
        "correct answer": one.correction,
        "expected answer": one.expected,
        "a right answer has to": one.rubric,
    }
    parts = [f"{name}: {value}" if name else value for name, value in said.items() if value]
    name = f" ({one.name})" if one.name else ""
    return f"{one.source}{name} on {about}: {'; '.join(parts)}" if parts else ""
