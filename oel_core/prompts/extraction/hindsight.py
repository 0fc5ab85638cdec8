"""What a user's next message says about the answer before it, by its words alone."""

import re
from collections.abc import Iterator
from enum import StrEnum

from oel_core.text.shingles import SHINGLE, jaccard, shingles, words
from oel_core.types import INSTRUCTING, Message, Trajectory, Turn

SIMILAR = 0.5
"""Jaccard similarity of word trigrams from which a message repeats the request before it."""
_CONTENT = (
    r"(?:no|thanks?|gracias|merci|danke|nothing|need|problem|worries|rush|all good"
    r"|(?:that|it)(?:'s| is) (?:all|it|everything|fine|ok|okay|good|great|enough)|i(?:'m| am) (?:good|fine|ok|okay))"
)
"""How a message goes on after a "No" that rejects nothing."""
_NO = re.compile(
    rf"(?:no|nope)(?:[,.:;!-]+\s*(?!{_CONTENT}\b)(?=\w)|\s+(?!{_CONTENT}\b)(?=(?:that|this|it|you|i|not)\b))",
    re.IGNORECASE,
)
"""A "No" that is followed by what is meant instead."""
_OBJECTION = re.compile(
    r"(?:wrong|incorrect"
    r"|(?:that|this|it)(?:'s| is| was) (?:still )?(?:wrong|incorrect|false|not (?:what|right|correct|true|my|the))"
    r"|(?:that|this|it) (?:isn't|wasn't) (?:what|right|correct|true|my|the)"
    r"|your answer (?:is|was) (?:wrong|incorrect|not)|you(?:'re| are) wrong"
    r"|not (?:what i|quite|correct|right(?! now))"
    r"|i (?:said|meant|asked for)|i (?:did not|didn't) (?:ask|mean|want|say)"
    r"|you (?:forgot|ignored|misunderstood)|you (?:did not|didn't) (?:answer|read|understand|do|send|include)"
    r"|(?:it|that|this) (?:still )?(?:does not|doesn't|did not|didn't) (?:work|help)"
    r"|still (?:wrong|broken|the same|not (?:working|right|correct))|(?:please )?try again"
    r")\b",
    re.IGNORECASE,
)
"""How English messages begin that reject an answer, whatever it was."""
_APOSTROPHES = str.maketrans("\u2019\u02bc\u2018", "'''")


class Reaction(StrEnum):
    """A user's message after an answer; the values are the words for it in the extractor's transcript."""

    OBJECTS = "objects to"
    REPEATS = "asks again after"
    GOES_ON = "next message after"

    @property
    def rejects(self) -> bool:
        """Whether the answer did not help, as far as the message tells."""
        return self is not Reaction.GOES_ON


def reaction(before: Turn, message: str) -> Reaction:
    """How a user's message relates to the answer before it.

    Objections are recognised by how an English message begins, repeated requests in any language by their words. A "No"
    after a question answers that.
    """
    said = message.strip().translate(_APOSTROPHES)
    asked = before.response.rstrip().endswith("?")
    if _OBJECTION.match(said) or (not asked and _NO.match(said)):
        return Reaction.OBJECTS
    request = last_request(before)
    long = len(words(request)) > SHINGLE
    alike = jaccard(shingles(request), shingles(message)) >= SIMILAR
    return Reaction.REPEATS if long and alike else Reaction.GOES_ON


def reactions(trajectory: Trajectory) -> Iterator[Reaction]:
    """Of the user of a recorded conversation to its answers, in order."""
    if trajectory.intro:  # an environment's episode, whose observations are the user's messages
        return
    for before, turn in zip(trajectory.turns, trajectory.turns[1:], strict=False):
        since = said_since(before, turn) or []
        yield from (reaction(before, one.content) for one in since[:1] if one.role == "user")


def said_since(before: Turn, turn: Turn) -> list[Message] | None:
    """The messages of a turn's prompt after the answer of the turn before it; None if it does not continue that one."""
    earlier, messages = without_instructions(before), without_instructions(turn)
    end = len(earlier)
    follows = messages[:end] == earlier and len(messages) > end and messages[end].role == "assistant"
    return messages[end + 1 :] if follows else None


def without_instructions(turn: Turn) -> list[Message]:
    """The messages of a turn's prompt but for its system message."""
    return [message for message in turn.messages if message.role not in INSTRUCTING]


def last_request(turn: Turn) -> str:
    """The last message of the user in a turn's prompt; empty if there is none."""
    return next((message.content for message in reversed(turn.messages) if message.role == "user"), "")
