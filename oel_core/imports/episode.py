"""Converts a session to an episode: each call is a turn; messages between two calls are the observation."""

from collections.abc import Sequence

from oel_core.imports.feedback import scaled, summary
from oel_core.imports.records import Call, Session
from oel_core.policies.text.plain_tools import call_line
from oel_core.rollouts.episode import prompt_digest
from oel_core.types import INSTRUCTING, IdSource, Message, Split, Trajectory, Turn


def episode(session: Session, id: str, env: str, index: int, top_score: float) -> Trajectory:
    """Converts a session.

    The reward is that of the last turn, since people rate conversations far more often than single steps. If the source
    has no token ids, `response_ids` and `prompt_ids_digest` are empty.

    Args:
        env: name of the project's environment; only projects with the same one use the episode.
        top_score: see `oel_core.imports.feedback.reward`.
    """
    value, feedback = summary([call.feedback for call in session.calls], top_score)
    following = [*session.calls[1:], None]
    turns = [_turn(call, after, top_score) for call, after in zip(session.calls, following, strict=True)]
    turns[-1] = turns[-1].model_copy(update={"reward": value})
    return Trajectory(
        id=id,
        env=env,
        seed=0,
        split=Split.EXTRACT,
        round=0,
        replica=0,
        index=index,
        policy=session.calls[-1].model,
        knowledge_digest=None,
        intro="",
        turns=tuple(turns),
        terminated=not session.calls[-1].response.tool_calls,
        truncated=False,
        reward=value,
        feedback=feedback,
        session=session.calls[-1].session,
        user=session.calls[-1].user,
        at=session.calls[-1].at,
    )


def text_of(call: Call) -> str:
    """The answer as the model wrote it; of one that is not known so, its content and a line for each call of a tool."""
    return call.text or "\n".join(filter(None, [call.response.content, *map(call_line, call.response.tool_calls)]))


def _turn(call: Call, after: Call | None, top_score: float) -> Turn:
    text = text_of(call)
    return Turn(
        messages=call.messages,
        prompt_ids_digest=prompt_digest(call.prompt_ids) if call.prompt_ids else "",
        prompt_tokens=call.prompt_tokens,
        response=text,
        response_ids=call.response_ids,
        stop_reason=call.stop_reason,
        action=text,
        observation="" if after is None else _observation(call, after),
        reward=0.0,
        wall_s=0.0,
        id_source=IdSource.SAMPLED if call.response_ids else IdSource.RETOKENISED,
        given=tuple(scaled(one, top_score) for one in call.feedback),
    )


def _observation(call: Call, after: Call) -> str:
    """The messages that the next prompt adds after this call's answer."""
    return "\n".join(message.content for message in _body(after.messages)[len(_body(call.messages)) + 1 :])


def _body(messages: Sequence[Message]) -> Sequence[Message]:
    return messages[1:] if messages[0].role in INSTRUCTING else messages
