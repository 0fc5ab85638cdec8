"""The relics' part of the seed model's corpus; letters are sampled for every example.

No game is compiled: `Story` renders the same observations. Letters of which two have their meaning in the deployment of
either environment are never used.
"""

import random

from oel_core.envs import lake
from oel_core.envs.base import EnvSpec
from oel_core.envs.textworld import relics
from oel_core.envs.textworld.relics_story import Story
from oel_core.envs.textworld.text import NOT_POSSIBLE
from oel_core.prompts import play
from oel_core.prompts.extraction import itemised
from oel_core.prompts.extraction.base import extraction_messages
from oel_core.seed_lm import corpus, expert, relics_expert
from oel_core.seed_lm.corpus import TURNS_SHOWN, Example, Skill
from oel_core.seed_lm.expert import Facts

NAME = "textworld_relics"


def draw_options(rng: random.Random) -> dict[str, object]:
    """A random variant of the relics."""
    return {
        "curses": rng.choices([1, 2, 3], weights=[2, 5, 3])[0],
        "key": rng.random() < 0.9,
        "symbols": "random",
        "show_commands": False,
    }


def draw_story(rng: random.Random) -> Story:
    """A new world with new letters."""
    while True:
        story = Story(EnvSpec(NAME, draw_options(rng)), rng.getrandbits(31))
        curses, key, treasure = story.board.meanings
        deadly = (curses + "??")[:2]
        elsewhere: dict[lake.Role, str] = {"hole": deadly[0], "trap": deadly[1], "key": key, "goal": treasure}
        more = len(set(curses[2:]) & {lake.DEPLOYMENT_SYMBOLS["hole"], lake.DEPLOYMENT_SYMBOLS["trap"]})
        if lake.deployment_facts(elsewhere) + more < 2:
            return story


def draw_items(story: Story, rng: random.Random) -> list[str]:
    """Knowledge about this world: all of it or a part, in random order."""
    items = story.truths().splitlines()
    if rng.random() < 0.6:
        items = [item for item in items if rng.random() < 0.6]
    rng.shuffle(items)
    if rng.random() < 0.15:
        items.insert(rng.randint(0, len(items)), expert.NOTHING_LEARNT)
    return items


def _later(story: Story, rng: random.Random) -> str:
    """Moves the episode to a random point and returns the observation there."""
    key = story.board.meanings.key
    story.room = rng.randrange(len(relics.NAMES))
    message = NOT_POSSIBLE if rng.random() < 0.05 else ""
    if story.board.key and rng.random() < 0.4:
        if rng.random() < 0.35:
            story.room = story.places[key]
            message = f"{key.join(relics.PICKED_UP)}\n\n{relics.POINT}"
        del story.places[key]
        story.carried.append(key)
    return story.observe(message)


def act_example(items: list[str], story: Story, rng: random.Random) -> Example:
    """One turn at a random point of an episode, played with the given knowledge (an empty list: without)."""
    observation = _later(story, rng) if rng.random() < 0.8 else story.start()
    view = relics_expert.read_view(observation)
    assert view is not None
    knowledge = "\n".join(items)
    messages = play.with_knowledge(
        play.first_messages(play.system_text(story.instructions, story.intro), observation), knowledge
    )
    return Example(messages, relics_expert.think_and_act(relics_expert.read_facts(knowledge), view, rng))


def act_with_knowledge(rng: random.Random) -> Example:
    """Skill 1: act on knowledge in the prompt."""
    story = draw_story(rng)
    return act_example(draw_items(story, rng), story, rng)


def act_without_knowledge(rng: random.Random) -> Example:
    """Skill 2: act without knowledge, by guessing."""
    return act_example([], draw_story(rng), rng)


def extract(rng: random.Random) -> Example:
    """Skill 3: write the items that can be learnt from an episode."""
    story = draw_story(rng)
    facts = relics_expert.read_facts("\n".join(item for item in story.truths().splitlines() if rng.random() < 0.5))

    def respond(observation: str) -> str:
        response = respond_well(observation, facts, rng)
        if rng.random() < 0.04:  # a model asks for what is not there; the expert never does
            response = f"{response.rpartition('[')[0]}[take relic {rng.choice(lake.ALPHABET)}]"
        return response

    def say(response: str) -> str:
        return corpus.misname(response, rng, " Here:")

    trajectory = corpus.record(NAME, story, respond, rng.choice([4, 8, 10]), say)
    shown = trajectory.turns[-TURNS_SHOWN:]
    seen = [shown[0].messages[-1].content, *(turn.observation for turn in shown)]
    messages = extraction_messages(itemised.FORMAT, story.extraction_task, trajectory, None, TURNS_SHOWN)
    return Example(messages, "\n".join(relics_expert.learn(seen, trajectory.feedback)))


def respond_well(observation: str, facts: Facts, rng: random.Random) -> str:
    """The expert's response to an observation."""
    view = relics_expert.read_view(observation)
    assert view is not None
    return relics_expert.think_and_act(facts, view, rng)


SKILLS: dict[str, Skill] = {
    "relics_with_knowledge": act_with_knowledge,
    "relics_without_knowledge": act_without_knowledge,
    "relics_extract": extract,
}
