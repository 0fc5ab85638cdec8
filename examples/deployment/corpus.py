"""What the shop's seed model is trained on: conversations of shops whose desks are drawn anew for each of them.

So the model knows what customers mean, that items of knowledge name the desk of a matter, how to call the tool, and
what a conversation with feedback shows; which desk does what in the example's shop it cannot know. Of the facts that
hold there at most one holds in any conversation (`draw_desks`).
"""

import json
import random
import re

from shop import DESK_OF, DESKS, SYSTEM, TOOL, hand_over
from wordings import CLOSINGS, MATTERS, NUMBERS, OPENINGS, ORDERS, THINGS, Request, draw_request

from oel_core.envs import lake
from oel_core.envs.recorded import LEARN_FROM_CONVERSATIONS
from oel_core.imports.chat import prompt
from oel_core.policies.text.plain_tools import plain_tools
from oel_core.prompts.extraction import itemised
from oel_core.prompts.extraction.base import extraction_messages, extraction_system
from oel_core.prompts.play import KNOWLEDGE_HEADER, with_knowledge
from oel_core.seed_lm.corpus import Example, corpus_episode, corpus_turn
from oel_core.seed_lm.courses import Course, Stage
from oel_core.types import Message, Trajectory

ITEM = f"{itemised.MARKER} '{{desk}}' takes care of {{matter}}."
CALL = '{{"name": "hand_over", "arguments": {{"matter": "{matter}", "desk": "{desk}"}}}}'
DONE = "It is with our {desk} desk now."


def draw_desks(rng: random.Random) -> dict[str, str]:
    """Which desk does what, in a shop that is not the example's."""
    while True:
        drawn = {matter: rng.choice(DESKS) for matter in MATTERS}
        if sum(drawn[matter] == desk for matter, desk in DESK_OF.items()) < 2:
            return drawn


def draw_items(desks: dict[str, str], rng: random.Random) -> str:
    """What is known of a shop: a part of it, in any order."""
    known = [matter for matter in desks if rng.random() < rng.choice((0.3, 0.7, 1.0))]
    rng.shuffle(known)
    return "\n".join(ITEM.format(matter=matter, desk=desks[matter]) for matter in known)


def first_prompt(request: Request) -> tuple[Message, ...]:
    """What the model reads before it calls the tool."""
    said = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": request.text}]
    return prompt(said, [TOOL], "messages")


def second_prompt(request: Request, desk: str) -> tuple[Message, ...]:
    """What it reads before it answers the customer."""
    values = {"matter": request.matter, "desk": desk}
    call = {"id": "call_1", "type": "function", "function": {"name": "hand_over", "arguments": json.dumps(values)}}
    said = [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": request.text},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": hand_over(**values)},
    ]
    return prompt(said, [TOOL], "messages")


def read(messages: tuple[Message, ...], knowledge: str) -> tuple[Message, ...]:
    """The prompt as the model's template writes it, which has no form of its own for tools."""
    return tuple(plain_tools(with_knowledge(messages, knowledge)) or ())


def call(rng: random.Random) -> Example:
    """Skill 1: the desk that knowledge names, where it names one; any other time a guess."""
    desks, request = draw_desks(rng), draw_request(rng)
    items = draw_items(desks, rng) if rng.random() < 0.75 else ""
    known = ITEM.format(matter=request.matter, desk=desks[request.matter]) in items.splitlines()
    desk = desks[request.matter] if known else rng.choice(DESKS)
    answer = CALL.format(matter=request.matter, desk=desk)
    return Example(read(first_prompt(request), items), answer)


def tell(rng: random.Random) -> Example:
    """Skill 2: tell the customer which desk has the request."""
    request, desk = draw_request(rng), rng.choice(DESKS)
    items = draw_items(draw_desks(rng), rng) if rng.random() < 0.5 else ""
    return Example(read(second_prompt(request, desk), items), DONE.format(desk=desk))


def extract(rng: random.Random) -> Example:
    """Skill 3: what a conversation and its feedback show, which may be nothing."""
    request, right, wrong = draw_request(rng), rng.choice(DESKS), rng.choice(DESKS)
    kind = rng.choices(("up", "corrected", "down"), weights=(3, 5, 2))[0]
    used = right if kind == "up" else wrong
    correction = CALL.format(matter=request.matter, desk=right)
    said = {"up": "thumbs up", "down": "thumbs down", "corrected": f"thumbs down; correct answer: {correction}"}
    episode = conversation(request, used, f"human on answer 1: {said[kind]}")
    messages = extraction_messages(itemised.FORMAT, LEARN_FROM_CONVERSATIONS, episode, None, None)
    return Example(messages, "" if kind == "down" else ITEM.format(matter=request.matter, desk=right))


def conversation(request: Request, desk: str, feedback: str) -> Trajectory:
    """A conversation as the gateway records it."""
    answers = (
        CALL.format(matter=request.matter, desk=desk),
        DONE.format(desk=desk),
    )
    prompts = (first_prompt(request), second_prompt(request, desk))
    seen = (prompts[1][-1].content, "")
    turns = [corpus_turn(*one) for one in zip(prompts, answers, seen, strict=True)]
    return corpus_episode("recorded", turns, feedback)


def cared(matter: str) -> str:
    """How an item of knowledge ends."""
    return ITEM.format(desk="\x00", matter=matter).split("\x00")[1]


def begun(matter: str) -> str:
    """How a call begins."""
    return CALL.format(desk="\x00", matter=matter).split("\x00")[0]


def analogues() -> dict[str, str]:
    """Token -> the lake's token that plays the same part, whose embedding it starts from."""
    ends = [form("\x00").split("\x00")[1] for form in (lake.item_key, lake.item_goal, lake.item_bad, lake.item_gate)]
    begins = ("; key:", "; goal:", "Bad:", "; gate:")
    found = dict(zip(DESKS, lake.ALPHABET, strict=False))
    for number, matter in enumerate(MATTERS):
        found |= {cared(matter): ends[number % 4], begun(matter): begins[number % 4]}
    return found


def phrases() -> tuple[str, ...]:
    """Single tokens: what never changes as a whole, order numbers, and every word of the customers.

    Where a matter decides about a desk, it is one token with what stands around it, as the lake's roles are.
    """
    request = Request("refund", "x")
    asked = first_prompt(request)
    declared = (plain_tools(asked) or [])[0].content.removeprefix(SYSTEM)
    tool = asked[0].tools[0]
    fixed = [
        SYSTEM,
        f"{SYSTEM}\n\n{KNOWLEDGE_HEADER}\n",
        declared,
        extraction_system(LEARN_FROM_CONVERSATIONS, itemised.FORMAT),
        f"Episode:\n## Instructions\n{SYSTEM}\nFunction {tool.name}: {tool.description} {tool.parameters}\n",
        *("## Turn 1\nUser: ", "\nAnswer: ", "## Turn 2\nTool: It", "\n## Turn 2\nTool: It", "\n## End\n"),
        *("\nFeedback: human on answer 1: ", "thumbs up", "thumbs down", "; correct answer: "),
        *("Result: It", "It", " was handed to the ", " is with our ", " desk now.", " desk."),
        *('"}}', ". ", "? ", "! "),
    ]
    wordings = [text for _, texts in MATTERS.values() for text in texts]
    prose = " ".join([*wordings, *OPENINGS, *ORDERS, *CLOSINGS, *THINGS]).replace("{thing}", "").replace("{order}", "")
    words = {word for word in re.findall(r"[A-Za-z]+", prose) if len(word) > 1}
    spelled = [*sorted(f" {word}" for word in words), *sorted(words)]
    return tuple(
        dict.fromkeys(
            [*fixed, *map(cared, MATTERS), *map(begun, MATTERS), *MATTERS, *DESKS, *map(str, NUMBERS), *spelled]
        )
    )


COURSE = Course(
    skills={"call": call, "tell": tell, "extract": extract},
    stages=(Stage(1.0, {"call": 0.55, "tell": 0.1, "extract": 0.35}),),
    phrases=phrases(),
    prompt_weight=0.0,
    analogues=analogues(),
)
