"""TextWorld games (https://github.com/microsoft/TextWorld), played without their objective.

Games come from TextWorld's own generators and challenges. They are compiled once (about half a second, with the
Inform 7 that TextWorld brings along) and kept in a cache folder. TextWorld can also play an uncompiled game, but that
mode has no text at all, only facts, so it is not used. A player never sees the banner, the objective or any quest
text: observations are built from the game's description, inventory and admissible commands.
"""

import hashlib
import json
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ClassVar, Final

from oel_core.envs.base import EnvSpec, Step
from oel_core.envs.cache import cache_root, cached_folder
from oel_core.envs.options import parse_options
from oel_core.envs.textworld_options import (
    CoinCollectorOptions,
    CookingOptions,
    CustomOptions,
    TextWorldOptions,
    TreasureHunterOptions,
)
from oel_core.envs.textworld_text import refuse_objective, tidy
from oel_core.errors import EnvironmentError_
from oel_core.seeds import derive_seed

INTRO: Final = "You type one command at a time, in square brackets, like [go north]."
NOT_POSSIBLE: Final = "Nothing happens: that is not a possible command here."
_GENERATION_ATTEMPTS: Final = 20
_CACHE_FORMAT: Final = 1
_BRACKETS = re.compile(r"\[([^\[\]]*)\]")


class _TextWorldGame:
    """One episode of a TextWorld game."""

    Options: ClassVar[type[TextWorldOptions]]

    def __init__(self, spec: EnvSpec, seed: int) -> None:
        """Generates and compiles the game, or takes it from the cache, and starts it.

        Raises:
            ConfigError: an option is wrong.
            EnvironmentError_: the game could not be generated or compiled, or shows its objective.
        """
        options = parse_options(self.Options, spec)
        self.intro = INTRO
        self._show_commands = options.show_commands
        self._backend = _start(self._compiled(options, seed))
        self._state = self._backend.reset()
        self.layout = _layout(self._state["game"])
        self._first = self._observation("")
        refuse_objective(self._first, self._state["objective"])
        self._reward, self._terminated = 0.0, False

    @classmethod
    def prepare(cls, spec: EnvSpec, seeds: Sequence[int], workers: int = 1) -> None:
        """Generates and compiles the games of `seeds` in `workers` processes, with a progress bar on stderr.

        Raises:
            ConfigError: an option is wrong.
            EnvironmentError_: a game could not be generated or compiled.
        """
        options = parse_options(cls.Options, spec)
        missing = [seed for seed in dict.fromkeys(seeds) if not _cached(cls, options, seed)]
        if len(missing) > 1 and workers > 1:
            _compile_in_parallel(cls, options, missing, workers)
        else:
            for seed in missing:
                cls._compiled(options, seed)

    @classmethod
    def _compiled(cls, options: Any, seed: int) -> Path:
        """The compiled game's file, made if the cache does not hold it."""
        folder = cached_folder(
            cache_root("textworld"), _key(cls, options, seed), lambda target: _compile(cls, options, seed, target)
        )
        return folder / "game.z8"

    @classmethod
    def _generate(cls, options: Any, game_options: Any) -> Any:
        """The game as TextWorld's generators give it."""
        raise AssertionError("every TextWorld game says how it is generated")

    def start(self) -> str:
        """The first observation: where the player is, without banner and objective."""
        return self._first

    def parse(self, response: str) -> str | None:
        """The last bracketed text that is a possible command now, else the last line if it is one.

        Case and repeated spaces do not matter. None stands for no valid action, also where something was asked for
        that is not possible here.
        """
        lines = [line for line in response.splitlines() if line.strip()]
        candidates = [*reversed(_BRACKETS.findall(response)), *lines[-1:]]
        return next((found for text in candidates if (found := self._admissible(text))), None)

    def step(self, action: str | None) -> Step:
        """Plays a command. What is not admissible is answered and never reaches the interpreter."""
        if self._terminated:
            return Step("The game is over.", self._reward, True)
        command = self._admissible(action or "")
        if command is None:
            return Step(self._observation(NOT_POSSIBLE), self._reward, False)
        self._state, _, _ = self._backend.step(command)
        self._terminated = bool(self._state["won"] or self._state["lost"])
        self._reward = 1.0 if self._state["won"] else min(0.99, self._state["score"] / max(1, self._state["max_score"]))
        return Step(self._observation(tidy(self._state["feedback"])), self._reward, self._terminated)

    def feedback(self, *, truncated: bool) -> str:
        """Success or failure with what the game said last and the score, or the round limit."""
        score = f"(score {self._state['score']} of {self._state['max_score']})"
        if self._terminated:
            reason = " ".join(tidy(self._state["feedback"]).split("***")[0].split())
            return f"{'Success' if self._reward >= 1.0 else 'Failure'}: {reason} {score}"
        reason = "round limit reached" if truncated else "the episode was not finished"
        return f"Failure: {reason} {score}"

    def close(self) -> None:
        """Ends the interpreter."""
        if self._backend is not None:
            self._backend.close()
            self._backend = None

    def _admissible(self, text: str) -> str | None:
        """The admissible command that `text` names."""
        wanted = " ".join(text.lower().split())
        commands = self._state["admissible_commands"]
        return next((command for command in commands if command.lower() == wanted), None)

    def _observation(self, message: str) -> str:
        """The game's answer, then what the player sees, carries and can do, each said once."""
        parts = [message]
        if not self._over():
            said = " ".join(message.split())
            views = [tidy(self._state["description"]), tidy(self._state["inventory"])]
            parts += [view for view in views if " ".join(view.split()) not in said]
            if self._show_commands:
                parts.append("Possible commands: " + ", ".join(f"[{c}]" for c in self._state["admissible_commands"]))
        return "\n\n".join(part for part in parts if part)

    def _over(self) -> bool:
        return bool(self._state["won"] or self._state["lost"])


class CoinCollector(_TextWorldGame):
    """TextWorld's Coin Collector: rooms in a chain, with or without dead ends, and one thing that counts."""

    Options = CoinCollectorOptions

    @classmethod
    def _generate(cls, options: CoinCollectorOptions, game_options: Any) -> Any:
        from textworld.challenges.tw_coin_collector import coin_collector

        return coin_collector.make({"level": options.level}, game_options)


class TreasureHunter(_TextWorldGame):
    """TextWorld's Treasure Hunter: a maze with one right thing to take and one wrong one."""

    Options = TreasureHunterOptions

    @classmethod
    def _generate(cls, options: TreasureHunterOptions, game_options: Any) -> Any:
        from textworld.challenges.tw_treasure_hunter import treasure_hunter

        return treasure_hunter.make({"level": options.level}, game_options)


class Cooking(_TextWorldGame):
    """TextWorld's cooking game: its recipe lies somewhere in its world."""

    Options = CookingOptions

    @classmethod
    def _generate(cls, options: CookingOptions, game_options: Any) -> Any:
        from textworld.challenges.tw_cooking import cooking

        return cooking.make({**options.model_dump(exclude={"show_commands"}), "recipe_seed": 0}, game_options)


class CustomGame(_TextWorldGame):
    """A game of TextWorld's general generator: a house, objects and a quest of a chosen length."""

    Options = CustomOptions

    @classmethod
    def _generate(cls, options: CustomOptions, game_options: Any) -> Any:
        from textworld import generator

        game_options.nb_rooms = options.rooms
        game_options.nb_objects = options.objects
        game_options.quest_length = options.quest_length
        game_options.quest_breadth = options.quest_breadth
        return generator.make_game(game_options)


def _key(cls: type[_TextWorldGame], options: TextWorldOptions, seed: int) -> str:
    """Everything that decides a game's content; how observations are shown is left out."""
    world = options.model_dump(mode="json", exclude={"show_commands"})
    content = [_CACHE_FORMAT, version("textworld"), cls.__name__, world, seed]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def _cached(cls: type[_TextWorldGame], options: TextWorldOptions, seed: int) -> bool:
    return (cache_root("textworld") / _key(cls, options, seed)).is_dir()


def _compile(cls: type[_TextWorldGame], options: TextWorldOptions, seed: int, folder: Path) -> None:
    """Writes game.z8 and game.json."""
    from textworld import generator

    game, game_options = _generate(cls, options, seed)
    game_options.path = os.fspath(folder / "game.z8")
    try:
        generator.compile_game(game, game_options)
    except Exception as error:
        raise EnvironmentError_(
            f"{cls.__name__} with {options} for seed {seed} did not compile: {error}. "
            "Choose a smaller game, or check that textworld's Inform 7 runs on this machine"
        ) from error


def _generate(cls: type[_TextWorldGame], options: TextWorldOptions, seed: int) -> tuple[Any, Any]:
    """A game and its generator options. The first seed that gives a game wins: the given one, then derived ones.

    TextWorld's generators fail on some seeds (no quest of that length on that map, no preparation for that food),
    with whatever exception comes first; deriving the next seed keeps the result a function of the first.
    """
    from textworld import GameOptions

    error: Exception | None = None
    for attempt in range(_GENERATION_ATTEMPTS):
        game_options = GameOptions()
        game_options.seeds = int(seed if attempt == 0 else derive_seed("textworld", seed, attempt) % 2**32)
        try:
            with _quiet_interpreter():
                return cls._generate(options, game_options), game_options
        except Exception as failure:
            error = failure
    raise EnvironmentError_(
        f"{cls.__name__} with {options} gave no game for seed {seed} in {_GENERATION_ATTEMPTS} attempts: {error!r}. "
        "Choose other options"
    ) from error


def _compile_in_parallel(cls: type[_TextWorldGame], options: Any, seeds: Sequence[int], workers: int) -> None:
    from rich.console import Console
    from rich.progress import track

    with ProcessPoolExecutor(min(workers, len(seeds)), mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(cls._compiled, options, seed) for seed in seeds]
        done = track(as_completed(jobs), "Making games", total=len(jobs), console=Console(stderr=True))
        for job in done:
            job.result()


def _start(path: Path) -> Any:
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
    try:
        with _quiet_interpreter():
            return textworld.start(os.fspath(path), wanted)
    except Exception as error:
        raise EnvironmentError_(f"{path.parent} is not a playable game: {error}. Delete that folder") from error


@contextmanager
def _quiet_interpreter() -> Iterator[None]:
    """The interpreter warns that it does not know a generated game; TextWorld reads the score from the text instead."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Game .* is not fully supported")
        yield


def _layout(game: Any) -> str:
    """Digest of the initial world by the names that a player reads, and of what wins and loses."""
    names = {key: info.name or key for key, info in game.infos.items()}

    def written(fact: Any) -> str:
        return f"{fact.name}({', '.join(names.get(argument.name, argument.name) for argument in fact.arguments)})"

    def conditions(events: Any) -> list[list[str]]:
        return sorted(sorted(map(written, event.condition.preconditions)) for event in events)

    world = sorted(map(written, game.world.facts))
    quests = sorted([conditions(quest.win_events), conditions(quest.fail_events)] for quest in game.quests)
    return hashlib.sha256(json.dumps([world, quests]).encode()).hexdigest()[:16]
