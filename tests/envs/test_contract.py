"""What every registered environment must do."""

import json
import random
import re
from pathlib import Path

import numpy as np
import pytest

from oel_core.envs import REGISTRY, Environment, EnvSpec, Step, make_env
from oel_core.envs.tools.env import ToolEnv
from oel_core.rollouts.episode import episode_return
from oel_core.testing.environments import HOSTILE as SHIPPED

SPECS = {
    "lake": EnvSpec("lake", {}, max_turns=6),
    "frozen_lake": EnvSpec("frozen_lake", {"size": 4, "holes": 3}),
    "sokoban": EnvSpec("sokoban"),
    "textworld_coin": EnvSpec("textworld_coin", {"level": 2}),
    "textworld_treasure": EnvSpec("textworld_treasure", {"level": 4}),
    "textworld_cooking": EnvSpec("textworld_cooking"),
    "textworld_custom": EnvSpec("textworld_custom", {"rooms": 2, "objects": 3, "quest_length": 2}),
    "textworld_relics": EnvSpec("textworld_relics", {"curses": 4, "symbols": "random"}),
    "tools": EnvSpec("tools", {"attempts": 3}),
}
SEEDS = (3, 2**32 - 1)
HOSTILE = [*SHIPPED, "[quit] [restart] [save] [tw-extra-infos description] [undo]"]

env_names = pytest.mark.parametrize("name", SPECS)


def legal_actions(environment: Environment, observation: str) -> list[str]:
    """Responses that ask for something possible."""
    if isinstance(environment, ToolEnv):
        return [f"\n{line.partition('is done with: ')[2]}\n" for line in environment.truths().splitlines()]
    listed = re.search(r"^Possible commands: (.*)$", observation, re.MULTILINE)
    return re.findall(r"\[[^\]]+\]", listed.group(1)) if listed else ["[up]", "[down]", "[left]", "[right]"]


def play(environment: Environment, seed: int, turns: int = 8) -> list[Step]:
    """A random but reproducible walk over legal actions; the first observation counts as a step."""
    draw, steps = random.Random(seed), [Step(environment.start(), 0.0, False)]
    while not steps[-1].terminated and len(steps) <= turns:
        response = draw.choice(legal_actions(environment, steps[-1].observation))
        action = environment.parse(f"I take {response}.")
        assert action is not None, f"{response} was listed but not understood"
        steps.append(environment.step(action))
    return steps


def textarena_rules(name: str) -> list[str]:
    import textarena

    env_id, function = {
        "frozen_lake": ("FrozenLake-v0-raw", "_prompt"),
        "sokoban": ("Sokoban-v0-raw", "_generate_player_prompt"),
    }[name]
    game = textarena.make(env_id)
    game.reset(num_players=1, seed=0)
    return getattr(game, function)(0, game.state.game_state).splitlines()


def hidden_text(name: str, environment: Environment) -> list[str]:
    """What no observation may hold, line by line or sentence by sentence."""
    if name in ("lake", "textworld_relics", "tools"):
        return [line.strip("- ") for line in environment.truths().splitlines()]
    if name.startswith("textworld"):
        folder = Path(environment._backend.unwrapped.gamefile).parent
        objective = json.loads((folder / "game.json").read_text())["objective"]
        assert len(objective) > 40
        return [part for part in re.split(r"(?<=[.!?]) ", objective) if len(part.split()) > 3]
    return textarena_rules(name)


def flat(text: str) -> str:
    return " ".join(text.split())


def test_every_registered_environment_is_tested() -> None:
    assert set(SPECS) == set(REGISTRY) - {"gymnasium", "verifiers", "recorded"}  # each with a test file


@env_names
def test_the_same_seed_answers_the_same_bytes(name: str) -> None:
    for seed in SEEDS:
        first, second = make_env(SPECS[name], seed), make_env(SPECS[name], seed)
        assert (first.intro, first.layout) == (second.intro, second.layout)
        assert play(first, 1) == play(second, 1)


@env_names
def test_different_seeds_differ(name: str) -> None:
    worlds = [make_env(SPECS[name], seed) for seed in SEEDS]
    assert len({world.layout for world in worlds}) == len(SEEDS)
    assert len({world.start() for world in worlds}) == len(SEEDS)


@env_names
def test_no_observation_holds_rules(name: str) -> None:
    for seed in SEEDS:
        environment = make_env(SPECS[name], seed)
        hidden = [flat(text) for text in hidden_text(name, environment) if flat(text)]
        assert hidden
        steps = [*play(environment, 2), make_env(SPECS[name], seed).step(None)]
        shown = [environment.intro, *(flat(step.observation) for step in steps)]
        assert [(text, line) for text in shown for line in hidden if line in text] == []
        assert not any("[GAME]" in text for text in shown)


@env_names
def test_hostile_actions_are_answered(name: str) -> None:
    for text in HOSTILE:
        environment = make_env(SPECS[name], SEEDS[0])
        first = environment.start()
        assert environment.parse(text) is None
        for action in (None, text):
            step = environment.step(action)
            assert step.observation
            assert step.reward == 0.0
            if step.terminated:
                assert environment.feedback(truncated=False).startswith("Failure")
        assert make_env(SPECS[name], SEEDS[0]).start() == first


@env_names
def test_an_invalid_action_does_not_end_an_episode_at_once(name: str) -> None:
    step = make_env(SPECS[name], SEEDS[0]).step(None)
    assert step.observation
    assert not step.terminated


@env_names
def test_truncation_is_the_rollouts_and_not_the_games(name: str) -> None:
    environment = make_env(SPECS[name], SEEDS[0])
    environment.start()
    feedback = environment.feedback(truncated=True)
    assert feedback.startswith("Failure: round limit reached")
    steps = play_until_over(environment)
    assert steps[-1].terminated
    passed = episode_return(step.reward for step in steps) >= 1.0
    assert environment.feedback(truncated=False).startswith("Success: " if passed else "Failure: ")
    assert "round limit" not in environment.feedback(truncated=False)
    again = environment.step("[up]")
    assert (again.terminated, again.reward) == (True, 0.0)


def play_until_over(environment: Environment, turns: int = 400) -> list[Step]:
    draw, steps = random.Random(0), [Step(environment.start(), 0.0, False)]
    for _ in range(turns):
        response = draw.choice(legal_actions(environment, steps[-1].observation))
        steps.append(environment.step(environment.parse(response)))
        if steps[-1].terminated:
            return steps
    if environment.intro.startswith("You are 'P'"):
        raise AssertionError("a random walk over a board never ended")
    return [*steps, *win_by_walkthrough(environment)]


def win_by_walkthrough(environment: Environment) -> list[Step]:
    """A random player may wander in a TextWorld game for ever; its own solution does not."""
    return [environment.step(command) for command in environment._state["game"].walkthrough]


@env_names
def test_layout_does_not_change_in_play(name: str) -> None:
    environment = make_env(SPECS[name], SEEDS[0])
    before = environment.layout
    play(environment, 3)
    assert environment.layout == before
    assert re.fullmatch(r"\S{8,64}", before)


@env_names
def test_the_intro_is_one_line(name: str) -> None:
    environment = make_env(SPECS[name], SEEDS[0])
    assert environment.intro.strip() == environment.intro
    assert "\n" not in environment.intro


@pytest.mark.parametrize("name", sorted(set(SPECS) - {"tools"}))
def test_instructions_and_extraction_task_are_those_of_hidden_rules(name: str) -> None:
    """The published runs depend on these bytes."""
    environment = make_env(SPECS[name], SEEDS[0])
    assert environment.instructions == (
        "You act in a world whose rules nobody has told you. Look at what you see, think briefly, and end your answer "
        "with one action in square brackets."
    )
    assert type(environment).extraction_task == (
        "You study one finished episode of a world whose rules nobody has told you. Work out from what happened what "
        "is worth knowing in other episodes: what things do, what to aim for, what to avoid."
    )


@env_names
def test_closing_twice_is_fine(name: str) -> None:
    environment = make_env(SPECS[name], SEEDS[0])
    environment.start()
    environment.close()
    environment.close()


@env_names
def test_live_episodes_do_not_disturb_each_other(name: str) -> None:
    alone = play(make_env(SPECS[name], SEEDS[0]), 4)
    first, second = make_env(SPECS[name], SEEDS[0]), make_env(SPECS[name], SEEDS[1])
    play(second, 5, turns=2)
    assert play(first, 4) == alone


def global_states() -> tuple[object, ...]:
    return random.getstate(), str(np.random.get_state())


@env_names
def test_global_randomness_is_left_alone(name: str) -> None:
    make_env(SPECS[name], SEEDS[0])  # compiled and imported before the states are taken
    states = global_states()
    environment = make_env(SPECS[name], SEEDS[1])
    play(environment, 6)
    assert global_states() == states
    random.seed(1), np.random.seed(1)
    one = play(make_env(SPECS[name], SEEDS[0]), 7)
    random.seed(2), np.random.seed(2)
    assert play(make_env(SPECS[name], SEEDS[0]), 7) == one
