"""The relics: effects of their letters, and that `Story` renders the same text as TextWorld."""

import random
import re
from pathlib import Path

import pytest

from oel_core.envs import EnvSpec, make_env, prepare_envs
from oel_core.envs.lake import ALPHABET
from oel_core.envs.textworld import relics
from oel_core.envs.textworld.relics import DEPLOYMENT, Meanings, RelicsOptions
from oel_core.envs.textworld.relics_game import Relics
from oel_core.envs.textworld.relics_story import Story
from oel_core.errors import ConfigError
from tests.envs.hash_seeds import seen_under_two_hash_seeds

QUIET = {"show_commands": False}
SPEC = EnvSpec("textworld_relics", QUIET)


def board(seed: int = 0, **options: object) -> relics.Board:
    return relics.draw_board(RelicsOptions(**options), random.Random(seed))


def walk(environment, seed: int, turns: int = 10) -> list[object]:
    """What a player hears who types at random: mostly what is possible, sometimes nonsense or what lies elsewhere."""
    draw = random.Random(seed)
    heard: list[object] = [environment.start()]
    story = Story(EnvSpec("textworld_relics", QUIET), 0)
    story.places, story.board = dict(environment.board.places), environment.board
    for _ in range(turns):
        wild = draw.choice(["[go up]", "[dance]", f"[take relic {draw.choice(ALPHABET)}]", "[go north]"])
        response = wild if draw.random() < 0.2 else f"So: [{draw.choice(story.possible())}]"
        story.step(story.parse(response))
        step = environment.step(environment.parse(response))
        heard.append(step)
        if step.terminated:
            break
    return [*heard, environment.feedback(truncated=not heard[-1].terminated)]  # type: ignore[attr-defined]


def test_the_story_is_what_textworld_tells() -> None:
    """Byte for byte: rooms, things, what is carried, events, endings, rewards and feedback."""
    endings = set()
    for number in range(5):
        options = {**QUIET, "curses": number % 3 + 1, "key": number % 4 != 3, "symbols": "random"}
        spec = EnvSpec("textworld_relics", options)
        for play in range(6):
            told = walk(Story(spec, number), play)
            assert told == walk(make_env(spec, number), play)
            endings.add(str(told[-1]).rpartition(" (")[0].rpartition(". ")[2])
    assert {"It was cursed.", "It was sealed, and you had no key."} <= endings


@pytest.mark.slow
def test_every_letter_can_be_taken_and_every_story_is_textworlds() -> None:
    met: set[str] = set()
    for seed in range(25):
        spec = EnvSpec("textworld_relics", {**QUIET, "curses": 4, "symbols": "random"})
        met |= set(make_env(spec, seed).board.places)
        for play in range(20):
            assert walk(Story(spec, seed), play) == walk(make_env(spec, seed), play)
    assert met == set(ALPHABET)


@pytest.mark.parametrize("key", [True, False])
def test_the_solution_wins(key: bool) -> None:
    spec = EnvSpec("textworld_relics", {**QUIET, "key": key})
    for environment in (make_env(spec, 4), Story(spec, 4)):
        environment.start()
        commands = relics.hand_made(environment.board).solution
        steps = [environment.step(environment.parse(f"[{command}]")) for command in commands]
        assert [step.terminated for step in steps] == [False] * (len(steps) - 1) + [True]
        assert [step.reward for step in steps if step.reward] == [1.0 / (1 + key)] * (1 + key)
        assert steps[-1].reward > 0.0
        said = environment.feedback(truncated=False)
        assert said.startswith("Success: You pick up the relic B from the ground. ")
        assert said.endswith(f" {relics.WON} (score {1 + key} of {1 + key})")


def fetch(environment, *letters: str):
    """The steps of taking relics in that order, walking around the ring between them."""
    environment.start()
    room, steps = 0, []
    for letter in letters:
        while room != environment.board.places[letter]:
            steps.append(environment.step(f"go {relics.ROUND[room]}"))
            room = relics.EXITS[room][relics.ROUND[room]]
        steps.append(environment.step(f"take relic {letter}"))
    return steps


@pytest.mark.parametrize(
    ("letters", "said", "points"),
    [("M", relics.CURSED, 0), ("T", relics.CURSED, 0), ("B", relics.SEALED, 0), ("ST", relics.CURSED, 1)],
)
def test_what_loses(letters: str, said: str, points: int) -> None:
    environment = make_env(SPEC, 2)
    steps = fetch(environment, *letters)
    assert steps[-1].terminated
    assert steps[-1].reward == 0.0
    assert sum(step.reward for step in steps) == points / 2
    assert environment.feedback(truncated=False) == (
        f"Failure: You pick up the relic {letters[-1]} from the ground. {said} (score {points} of 2)"
    )


def test_a_key_that_was_dropped_again_opens_nothing() -> None:
    environment = make_env(SPEC, 2)
    fetch(environment, "S")
    environment.step("drop relic S")
    place = environment.board.places["S"]
    while place != environment.board.places["B"]:
        environment.step(f"go {relics.ROUND[place]}")
        place = relics.EXITS[place][relics.ROUND[place]]
    assert environment.step("take relic B").terminated
    assert relics.SEALED in environment.feedback(truncated=False)


def test_the_treasure_needs_no_key_where_there_is_none() -> None:
    environment = make_env(EnvSpec("textworld_relics", {**QUIET, "key": False}), 2)
    assert fetch(environment, "B")[-1].reward == 1.0


def test_boards_are_drawn_without_compiling_and_shared_by_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OEL_CACHE", str(tmp_path))
    layouts = {make_env(SPEC, seed).layout for seed in range(3000)}
    assert len(layouts) == 4**4
    assert not (tmp_path / "textworld").exists()
    same = [seed for seed in range(3000) if make_env(SPEC, seed).layout == make_env(SPEC, 0).layout][:3]
    assert len(same) == 3
    prepare_envs(SPEC, same)
    assert len(list((tmp_path / "textworld").iterdir())) == 1
    starts = {make_env(SPEC, seed).start() for seed in same}
    assert len(starts) == 1


def test_closing_an_episode_that_never_started_compiles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OEL_CACHE", str(tmp_path))
    make_env(SPEC, 0).close()
    assert list(tmp_path.iterdir()) == []


def test_the_ring_can_be_walked() -> None:
    back = {"north": "south", "south": "north", "east": "west", "west": "east"}
    for room, exits in enumerate(relics.EXITS):
        assert relics.ROUND[room] in exits
        for way, other in exits.items():
            assert relics.EXITS[other][back[way]] == room
    room, seen = 0, set()
    for _ in range(4):
        seen.add(room)
        room = relics.EXITS[room][relics.ROUND[room]]
    assert (room, seen) == (0, {0, 1, 2, 3})


def test_drawn_letters_never_repeat_two_of_the_deployments_meanings() -> None:
    rng = random.Random(0)
    for _ in range(5000):
        meanings = relics.draw_meanings(rng.randint(0, 4), rng)
        assert len(set(meanings.letters)) == len(meanings.letters)
        assert relics.deployment_facts(meanings) < 2
    assert relics.deployment_facts(DEPLOYMENT) == 4
    assert relics.deployment_facts(Meanings("TA", "S", "C")) == 2
    assert relics.deployment_facts(Meanings("SB", "M", "T")) == 0


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"curses": 5}, "curses"),
        ({"curses": 3}, "names only 2"),
        ({"colour": "red"}, "colour"),
        ({"symbols": {"curses": "MP", "key": "S", "treasure": "B"}}, "capital letters"),
        ({"symbols": {"curses": "MM", "key": "S", "treasure": "B"}}, "capital letters"),
        ({"symbols": {"curses": "MT", "key": "SX", "treasure": "B"}}, "capital letters"),
        ({"symbols": {"curses": "MT", "key": "S"}}, "capital letters"),
    ],
)
def test_wrong_options_are_refused_by_name(options: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        make_env(EnvSpec("textworld_relics", options), 0)


def test_own_letters_are_used() -> None:
    symbols = {"curses": "QVW", "key": "A", "treasure": "N"}
    environment = make_env(EnvSpec("textworld_relics", {"curses": 1, "symbols": symbols}), 0)
    assert isinstance(environment, Relics)
    assert list(environment.board.places) == ["A", "N", "Q"]
    assert relics.item_curse("Q") in environment.truths()
    assert relics.item_sealed("N") in environment.truths()


@pytest.mark.slow
def test_games_do_not_depend_on_the_order_of_python_sets(tmp_path: Path) -> None:
    program = (
        "import json; from oel_core.envs import EnvSpec, make_env; from oel_core.envs.textworld import relics\n"
        "env = make_env(EnvSpec('textworld_relics', {}), 7)\n"
        "first = env.start()\n"
        "print(json.dumps([first, *(env.step(c).observation for c in relics.hand_made(env.board).solution)]))"
    )
    seen = seen_under_two_hash_seeds(program, tmp_path)
    assert seen[0] == seen[1]
    assert re.match(r"-= Hall =-\nYou can go east or south\.", seen[0][0])
