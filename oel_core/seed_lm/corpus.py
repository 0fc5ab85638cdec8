"""The seed model's training corpus: expert episodes on lakes whose symbols are sampled anew each time.

The deployment's letters never occur together in their deployment roles (`lake.draw_symbols`); a test checks this on the
corpus itself. So the weights do not contain the meaning of `H` and `G` there.
"""

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from oel_core.envs import lake
from oel_core.envs.base import Environment, EnvSpec
from oel_core.envs.lake import LakeEnv
from oel_core.envs.textworld import relics
from oel_core.prompts import play
from oel_core.prompts.extraction import itemised
from oel_core.prompts.extraction.base import extraction_messages
from oel_core.seed_lm import expert, frozen_lake_words
from oel_core.seed_lm.expert import Facts
from oel_core.types import Message, Split, StopReason, Trajectory, Turn

TURNS_SHOWN = 4
"""Turns of an episode that the extractor reads; the quickstart preset's `extract.turns_shown`."""


class Example(NamedTuple):
    """A prompt and its target response."""

    messages: tuple[Message, ...]
    response: str


def draw_options(rng: random.Random) -> dict[str, object]:
    """A random variant of the lake: Frozen Lakes without a key, and richer ones with traps and a key."""
    size = rng.choices([3, 4, 5], weights=[3, 12, 1])[0]
    rich = size > 3 and rng.random() < 0.75
    most = {3: 2, 4: 4, 5: 6}[size]
    return {
        "size": size,
        "holes": rng.randint(1, most - rich),
        "traps": rng.randint(0, 1) if rich else 0,
        "key": rich and rng.random() < 0.9,
        "corners": rng.random() < 0.4,
        "symbols": "random",
    }


def draw_env(rng: random.Random) -> LakeEnv:
    """A new lake with new symbols, of which at most one has its meaning in the deployment of either environment."""
    while True:
        env = LakeEnv(EnvSpec("lake", draw_options(rng)), rng.getrandbits(31))
        letters = env.symbols
        elsewhere = relics.Meanings(letters["hole"] + letters["trap"], letters["key"], letters["goal"])
        if relics.deployment_facts(elsewhere) < 2:
            return env


def draw_items(env: LakeEnv, rng: random.Random) -> list[str]:
    """Knowledge about this lake: all of it or a part, in random order."""
    items = env.truths().splitlines()
    if rng.random() < 0.6:
        items = [item for item in items if rng.random() < 0.6]
    rng.shuffle(items)
    if rng.random() < 0.25:
        items.insert(rng.randint(0, len(items)), expert.NOTHING_LEARNT)
    return items


def _later(env: LakeEnv, rng: random.Random) -> str:
    """Moves the episode to a random point: player on any free cell, key perhaps taken. Returns the last observation."""
    board = env.board
    key = board.find("key")
    things = {cell: role for cell, role in board.things.items() if role != "key" or rng.random() < 0.6}
    free = [
        lake.Cell(row, column)
        for row in range(board.size)
        for column in range(board.size)
        if lake.Cell(row, column) not in board.things
    ]
    player = rng.choice(free)
    event = _event(player, rng)
    if key is not None and key not in things and rng.random() < 0.25:
        player, event = (
            key,
            f"You moved {rng.choice(list(lake.MOVES))} to position ({key.row}, {key.column}).\n{lake.PICKED_UP}\n",
        )
    env.board = board._replace(player=player, things=things)
    return event


def _event(player: lake.Cell, rng: random.Random) -> str:
    action = rng.choice(list(lake.MOVES))
    wall = frozen_lake_words.wall_answer(action)
    moved = f"You moved {action} to position ({player.row}, {player.column}).\n"
    return rng.choices(["", moved, f"{lake.WALL}\n", wall, f"{lake.NOT_UNDERSTOOD}\n"], weights=[20, 60, 10, 8, 2])[0]


def act_example(items: list[str], env: LakeEnv, rng: random.Random) -> Example:
    """One turn at a random point of an episode, played with the given knowledge (an empty list: without)."""
    observation = env.start()
    if rng.random() < 0.75:
        observation = _later(env, rng) + env.start()
    view = expert.read_board(observation)
    assert view is not None
    knowledge = "\n".join(items)
    messages = play.with_knowledge(
        play.first_messages(play.system_text(env.instructions, env.intro), observation), knowledge
    )
    return Example(messages, expert.think_and_act(expert.read_facts(knowledge), view, rng))


def act_with_knowledge(rng: random.Random) -> Example:
    """Skill 1: act on knowledge in the prompt."""
    env = draw_env(rng)
    return act_example(draw_items(env, rng), env, rng)


def act_without_knowledge(rng: random.Random) -> Example:
    """Skill 2: act without knowledge, by guessing."""
    return act_example([], draw_env(rng), rng)


def corpus_turn(messages: tuple[Message, ...], response: str, observation: str) -> Turn:
    """A turn with the fields that an extractor reads."""
    return Turn(
        messages=messages,
        prompt_ids_digest="",
        prompt_tokens=0,
        response=response,
        response_ids=(),
        stop_reason=StopReason.EOS,
        action=None,
        observation=observation,
        reward=0.0,
        wall_s=0.0,
    )


def misname(response: str, rng: random.Random, plan_ends: str = " At ") -> str:
    """The response, with some probability with other letters as target or as beliefs; labels and move are unchanged.

    The expert always steps onto the target that it names, a weak model does not. An extractor must read the label in
    the direction of the move, so nothing else in the response may be an equally good cue. Beliefs are the text before
    `plan_ends`.
    """
    if rng.random() < 0.45:
        response = re.sub(r"(?<=Next:)[A-Z]", lambda _: rng.choice(lake.ALPHABET), response)
    if rng.random() < 0.3:
        plan, rest = response.split(plan_ends, 1)
        response = f"{re.sub('(?<=[:,])[A-Z]', lambda _: rng.choice(lake.ALPHABET), plan)}{plan_ends}{rest}"
    return response


def play_episode(
    env: LakeEnv,
    facts: Facts,
    rng: random.Random,
    max_turns: int,
    say: Callable[[str], str] = lambda response: response,
) -> Trajectory:
    """An episode played by the expert with these beliefs; `say` changes its text, not its actions."""

    def respond(observation: str) -> str:
        view = expert.read_board(observation)
        assert view is not None
        return expert.think_and_act(facts, view, rng)

    return record("lake", env, respond, max_turns, say)


def record(
    name: str, env: Environment, respond: Callable[[str], str], max_turns: int, say: Callable[[str], str]
) -> Trajectory:
    """Plays an episode with `respond`; the record has each response as rewritten by `say`."""
    observation, done = env.start(), False
    turns: list[Turn] = []
    while len(turns) < max_turns and not done:
        response = respond(observation)
        step = env.step(env.parse(response))
        turns.append(
            corpus_turn(
                play.first_messages(play.system_text(env.instructions, env.intro), observation),
                say(response),
                step.observation,
            )
        )
        observation, done = step.observation, step.terminated
    feedback = env.feedback(truncated=not done)
    return corpus_episode(name, turns, feedback, intro=env.intro, terminated=done, reward=float("Success" in feedback))


def corpus_episode(
    env: str, turns: Sequence[Turn], feedback: str, *, intro: str = "", terminated: bool = True, reward: float = 0.0
) -> Trajectory:
    """A finished episode with the fields that an extractor reads."""
    return Trajectory(
        id="corpus",
        env=env,
        seed=0,
        split=Split.EXTRACT,
        round=0,
        replica=0,
        index=0,
        policy="expert",
        knowledge_digest=None,
        intro=intro,
        turns=tuple(turns),
        terminated=terminated,
        truncated=not terminated,
        reward=reward,
        feedback=feedback,
    )


def extract(rng: random.Random) -> Example:
    """Skill 3: write the items that can be learnt from an episode."""
    env = draw_env(rng)
    facts = expert.read_facts("\n".join(item for item in env.truths().splitlines() if rng.random() < 0.5))
    trajectory = play_episode(env, facts, rng, rng.choice([4, 8, 12]), say=lambda response: misname(response, rng))
    if rng.random() < 0.35:
        trajectory = frozen_lake_words.retell(trajectory, rng)
    shown = trajectory.turns[-TURNS_SHOWN:]
    pairs = [(turn.messages[-1].content, turn.response) for turn in shown]
    items = expert.learn(pairs, shown[-1].observation, trajectory.feedback)
    messages = extraction_messages(itemised.FORMAT, env.extraction_task, trajectory, None, TURNS_SHOWN)
    return Example(messages, "\n".join(items))


Skill = Callable[[random.Random], Example]
SKILLS: dict[str, Skill] = {
    "act_with_knowledge": act_with_knowledge,
    "act_without_knowledge": act_without_knowledge,
    "extract": extract,
}


def examples(
    seed: int, weights: Mapping[str, float], skills: Mapping[str, Skill] = SKILLS
) -> Iterator[tuple[str, Example]]:
    """An endless stream of (skill, example)."""
    rng = random.Random(seed)
    names = list(weights)
    while True:
        name = rng.choices(names, weights=[weights[name] for name in names])[0]
        yield name, skills[name](rng)
