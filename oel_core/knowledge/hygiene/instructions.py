"""Detects prompt injection: items that address the reader instead of describing the environment.

Patterns match folded text (`hygiene.text.readings`): lower case, one space between words. Knowledge is itself full of
advice ("never step on H", "ignore the walls"), so a pattern requires what such advice does not contain: words about
instructions, prompts, roles, chat markers, tools, or the item itself.
"""

import base64
import binascii
import re

from oel_core.knowledge.hygiene.text import folded, readings
from oel_core.text.markers import has_marker

_OBJECT = (
    r"(?:instruction|prompt|guideline|direction|command|rule|message|context|knowledge|polic|safeguard|constraint)"
)
_SAY = r"\b(?:say|write|add|include|mention|recommend|praise|append|insert|begin|start)\b"
_ANSWERS = r"(?:answer|response|reply|message|question|prompt|request|conversation)s?\b"
_PLACE = r"(?:the |my |this |our )?(?:server|address|endpoint|webhook|url|attacker|channel|inbox)"
_MARKERS = "holds markers of a chat template"
_PATTERNS: tuple[tuple[str, str], ...] = (
    (
        "asks to set instructions aside",
        r"\b(?:ignore|disregard|forget|override|bypass|skip|discard|drop|neglect)\b.{0,30}"
        rf"\b(?:previous|prior|above|earlier|all|any|your|system|preceding|other|original|initial)\b.{{0,30}}{_OBJECT}",
    ),
    (
        "asks to set instructions aside",
        r"\b(?:do not|don'?t|never|stop) (?:follow|obey|listen to|heed|comply with)\w{0,8}\b.{0,30}"
        r"(?:instruction|prompt|guideline|system|developer|user|operator)",
    ),
    (
        "gives the reader a new role or task",
        r"\b(?:you are now|from now on,? you|pretend (?:to be|you are|that you are)|role-?play as|act as (?:an?|the|if)"
        r"|you must now act|your (?:new|real|true|actual) (?:role|task|goal|objective|instruction|purpose|identity))",
    ),
    (
        "asks for what the reader was told",
        r"\b(?:reveal|print|repeat|show|output|disclose|leak|quote|recite|give me|tell me|dump)\b.{0,40}"
        r"\b(?:system prompt|system message|hidden prompt|your (?:instructions|prompt|rules|training)"
        r"|initial prompt|environment variables?|api keys?|credentials|passwords?)",
    ),
    ("speaks of the system prompt", r"\b(?:system prompt|developer message|system message|developer mode|jailbreak)"),
    (
        _MARKERS,
        r"(?<!#)#{2,6} ?(?:instruction|system|assistant|user|response)s?\b ?:?"
        r"|^(?:system|assistant|user|developer|human) ?:"
        r"|\b(?:begin|end) (?:of )?(?:system|new|admin) (?:prompt|instructions?|message)",
    ),
    (
        "asks to hide something",
        r"\b(?:do not|don'?t|never|without) (?:tell|inform|mention|reveal|show|report|alert|telling|informing|alerting)"
        r"\w{0,8}\b.{0,40}\b(?:user|operator|human|developer|anyone|reviewer|person|owner|administrator)",
    ),
    (
        "asks to run or call something",
        r"\b(?:run|execute|invoke|call|eval(?:uate)?)\b.{0,30}"
        r"\b(?:shell|terminal|bash|python|code|script|tool|function|api|command line|sql)\b"
        r"|\brm -rf\b|\b(?:curl|wget) \S|os\.system|subprocess|drop table|<script|javascript:",
    ),
    (
        "asks to send data away",
        r"\b(?:send|post|upload|forward|exfiltrate|e-?mail|transmit|submit|leak|copy)\b.{0,60}"
        rf"\bto (?:https?:|www\.|\S{{1,64}}@|{_PLACE})",
    ),
    (
        "dictates the reader's answers",
        r"\b(?:respond|reply|answer)\b.{0,20}"
        r"\b(?:only with|always with|every (?:question|prompt|message|request)|exactly)"
        rf"|\b(?:in|to|at the (?:start|end) of) (?:every|each|all|any) {_ANSWERS}.{{0,30}}{_SAY}"
        rf"|{_SAY}.{{0,60}}\b(?:in|to|at the (?:start|end) of) (?:every|each|all|any) {_ANSWERS}",
    ),
    (
        "speaks of itself or of its neighbours",
        r"\b(?:copy|repeat|keep|include|preserve|reproduce|propagate|add|rewrite|write)\b.{0,25}"
        r"\bthis (?:item|line|sentence|text|rule|message|note|paragraph|experience)"
        r"|\bthis (?:item|line|rule|note|message)\b.{0,30}\b(?:must|never|always|overrides?|replaces?|takes|supersedes)"
        r"|\b(?:delete|remove|discard|drop|erase|replace|invalidate)\b.{0,20}\b(?:all|every|any|the) "
        r"(?:other|previous|earlier|existing|remaining) (?:item|knowledge|experience|line|note|memor)",
    ),
    (
        "addresses the extractor, a judge or a reviewer",
        r"\b(?:grader|evaluator|judge|reviewer|moderator|extractor|language model|ai model|llm|chatbot)s?\b"
        r".{0,40}\b(?:must|should|shall|please|approve|accept|score|mark|give|write|have to|needs? to)\b"
        r"|\b(?:approve|accept|mark|score)\b.{0,20}\b(?:this|the) (?:item|knowledge|episode|answer|run|model)\b",
    ),
    (
        "asks to set instructions aside, in another language",
        r"ignorier\w{0,8} (?:alle )?(?:vorherigen|bisherigen|obigen)"
        r"|ignore[zs]? (?:toutes )?les (?:instructions|consignes)"
        r"|ignora (?:todas )?(?:las|le) (?:instrucciones|istruzioni)|ignore (?:todas )?as instrucoes"
        rf"|忽略(?:之前|以上|所有|前面)|無視して|{folded('игнорируй')}|zignoruj",
    ),
)
_COMPILED = tuple((reason, re.compile(pattern)) for reason, pattern in _PATTERNS)
_ENCODED = re.compile(r"[A-Za-z0-9+/_-]{20,}={0,2}")


def instruction_reasons(text: str) -> list[str]:
    """Why the text looks like instructions to its reader, each reason once; also decodes Base64."""
    variants = readings(text)
    variants |= {variant for hidden in _decoded(text) for variant in readings(hidden)}
    found = [reason for reason, pattern in _COMPILED for variant in variants if pattern.search(variant)]
    return list(dict.fromkeys([*found, *([_MARKERS] if any(map(has_marker, variants)) else [])]))


def _decoded(text: str) -> list[str]:
    """Readable Base64 content of the text, decoded."""
    found = []
    for match in _ENCODED.finditer(text):
        raw = match.group().rstrip("=")
        try:
            padded = raw.translate(str.maketrans("+/", "-_")) + "=" * (-len(raw) % 4)
            found.append(base64.urlsafe_b64decode(padded).decode())
        except (binascii.Error, UnicodeDecodeError):
            continue
    return found
