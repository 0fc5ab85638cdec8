"""What a user's next message says about the answer before it, by its words alone."""

import re
from collections.abc import Iterator
from enum import StrEnum

from oel_core.text.shingles import SHINGLE, jaccard, shingles, words
from oel_core.types import INSTRUCTING, Message, Trajectory, Turn

SIMILAR = 0.5
"""Jaccard similarity of word trigrams from which a message repeats the request before it."""
_THANKS = r"no[,.!]? (?:problem|worries|thanks?|thank you|need|more|that is all|that's all|i'm (?:good|fine))"
_OBJECTION = re.compile(
    rf"(?!{_THANKS}\b)(?:"
    r"no|nope|wrong|incorrect|actually|not (?:what|that|right|correct|quite)"
    r"|th(?:at|is|ose|ese)(?:'s| is| are|'re|s)? (?:isn't|aren't|not|wrong|incorrect|false)"
    r"|i (?:said|meant|asked|wanted)|i (?:did not|didn't) (?:ask|mean|want|say)"
    r"|you (?:forgot|ignored|misunderstood|missed|(?:did not|didn't) )"
    r"|(?:it|that) (?:still )?(?:does not|doesn't|did not|didn't) (?:work|help)|still (?:not|wrong|the same)|try again"
    r")\b",
    re.IGNORECASE,
)
"""How English messages begin that reject an answer."""


class Reaction(StrEnum):
    """A user's message after an answer; the values are the words for it in the extractor's transcript."""

    OBJECTS = "objects to"
    REPEATS = "asks again after"
    GOES_ON = "next message after"

    @property
    def rejects(self) -> bool:
        """Whether the answer did not help, as far as the message tells."""
        return self is not Reaction.GOES_ON


def reaction(request: str, message: str) -> Reaction:
    """How a message relates to the answer to `request`.

    Objections are recognised by how an English message begins, repeated requests in any language by their words.
    """
    if _OBJECTION.match(message.lstrip()):
        return Reaction.OBJECTS
    long = len(words(request)) > SHINGLE
    alike = jaccard(shingles(request), shingles(message)) >= SIMILAR
    return Reaction.REPEATS if long and alike else Reaction.GOES_ON


def reactions(trajectory: Trajectory) -> Iterator[Reaction]:
    """Of the user of a recorded conversation to its answers, in order."""
    for before, turn in zip(trajectory.turns, trajectory.turns[1:], strict=False):
        since = said_since(before, turn) or []
        yield from (reaction(last_request(before), one.content) for one in since[:1] if one.role == "user")


def said_since(before: Turn, turn: Turn) -> list[Message] | None:
    """The messages of a turn's prompt after the answer of the turn before it; None if it does not continue that one."""
    earlier, messages = without_instructions(before), without_instructions(turn)
    return messages[len(earlier) + 1 :] if messages[: len(earlier)] == earlier else None


def without_instructions(turn: Turn) -> list[Message]:
    """The messages of a turn's prompt but for its system message."""
    return [message for message in turn.messages if message.role not in INSTRUCTING]


def last_request(turn: Turn) -> str:
    """The last message of the user in a turn's prompt; empty if there is none."""
    return next((message.content for message in reversed(turn.messages) if message.role == "user"), "")
