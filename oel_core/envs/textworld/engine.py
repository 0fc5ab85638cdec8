"""TextWorld's generators, compiler and interpreter. The only module that imports TextWorld."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from oel_core.envs.textworld.handmade import Fact, HandMade, Quest
from oel_core.envs.textworld.options import (
    CoinCollectorOptions,
    CookingOptions,
    CustomOptions,
    TreasureHunterOptions,
)

GAME = "game.z8"


def new_options(seed: int) -> Any:
    """TextWorld's own options of one game."""
    from textworld import GameOptions

    options = GameOptions()
    options.seeds = seed
    return options


def coin_collector(options: CoinCollectorOptions, game_options: Any) -> Any:
    """A game of TextWorld's Coin Collector."""
    from textworld.challenges.tw_coin_collector import coin_collector as challenge

    return challenge.make({"level": options.level}, game_options)


def treasure_hunter(options: TreasureHunterOptions, game_options: Any) -> Any:
    """A game of TextWorld's Treasure Hunter."""
    from textworld.challenges.tw_treasure_hunter import treasure_hunter as challenge

    return challenge.make({"level": options.level}, game_options)


def cooking(options: CookingOptions, game_options: Any) -> Any:
    """A game of TextWorld's cooking challenge."""
    from textworld.challenges.tw_cooking import cooking as challenge

    return challenge.make({**options.model_dump(exclude={"show_commands"}), "recipe_seed": 0}, game_options)


def custom(options: CustomOptions, game_options: Any) -> Any:
    """A game of TextWorld's general generator."""
    from textworld import generator

    game_options.nb_rooms = options.rooms
    game_options.nb_objects = options.objects
    game_options.quest_length = options.quest_length
    game_options.quest_breadth = options.quest_breadth
    return generator.make_game(game_options)


def by_hand(made: HandMade, game_options: Any) -> Any:
    """A fully specified game, without TextWorld's text grammars."""
    from textworld import GameMaker
    from textworld.generator.game import Event
    from textworld.generator.game import Quest as GameQuest

    maker = GameMaker(game_options)
    rooms = [maker.new_room(name, text) for name, text in made.rooms]
    for path in made.paths:
        maker.connect(rooms[path.one].exits[path.way], rooms[path.other].exits[path.way_back])
    things = [maker.new(type="o", name=name, desc=f"A {name}.") for name, _ in made.things]
    for thing, (_, place) in zip(things, made.things, strict=True):
        rooms[place].add(thing)
    maker.set_player(rooms[made.start])

    def written(fact: Fact) -> Any:
        thing, place = things[fact[0]], fact[1]
        holder = maker.inventory if place is None else rooms[place]
        return maker.new_fact("in" if place is None else "at", thing, holder)

    def quest(given: Quest) -> Any:
        wins, fails = (
            [Event(conditions=[written(f) for f in facts]) for facts in x] for x in (given.wins, given.fails)
        )
        return GameQuest(win_events=wins, fail_events=fails, reward=1)

    maker.quests = [quest(given) for given in made.quests]
    game = maker.build()
    game.metadata["walkthrough"] = list(made.solution)
    return game


def compile_game(game: Any, game_options: Any, folder: Path) -> None:
    """Writes game.z8, game.json and their source. Raises whatever TextWorld does."""
    from textworld import generator

    game_options.path = os.fspath(folder / GAME)
    generator.compile_game(game, game_options)


def start(path: Path) -> Any:
    """The interpreter of a compiled game. Raises whatever TextWorld does."""
    import textworld

    wanted = textworld.EnvInfos(
        description=True,
        inventory=True,
        admissible_commands=True,
        objective=True,
        score=True,
        max_score=True,
        won=True,
        lost=True,
    )
    with quiet():
        return textworld.start(os.fspath(path), wanted)


@contextmanager
def quiet() -> Iterator[None]:
    """Suppresses the interpreter's warning about unknown games; TextWorld reads the score from the text instead."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Game .* is not fully supported")
        yield
