"""TextWorld games (https://github.com/microsoft/TextWorld), played without their objective.

Games come from TextWorld's own generators and challenges. They are compiled once (about half a second, with the
Inform 7 that TextWorld brings along) and kept in a cache folder. TextWorld can also play an uncompiled game, but that
mode has no text at all, only facts, so it is not used. A player never sees the banner, the objective or any quest
text: observations are built from the game's description, inventory and admissible commands.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ClassVar, Final

from oel_core.envs.base import HIDDEN_RULES, LEARN_RULES, EnvSpec, Step
from oel_core.envs.options import parse_options
from oel_core.envs.textworld import engine
from oel_core.envs.textworld.options import (
    CoinCollectorOptions,
    CookingOptions,
    CustomOptions,
    TextWorldOptions,
    TreasureHunterOptions,
)
from oel_core.envs.textworld.text import INTRO, NOT_POSSIBLE, refuse_objective, tidy
from oel_core.errors import EnvironmentError_
from oel_core.runs.folder_cache import cache_root, cached_folder
from oel_core.seeds import narrow_seed

_GENERATION_ATTEMPTS: Final = 20
_CACHE_FORMAT: Final = 1
_BRACKETS = re.compile(r"\[([^\[\]]*)\]")


class TextWorldGame:
    """One episode of a TextWorld game."""

    Options: ClassVar[type[TextWorldOptions]]
    instructions = HIDDEN_RULES
    intro = INTRO
    extraction_task = LEARN_RULES

    def __init__(self, spec: EnvSpec, seed: int) -> None:
        """Generates and compiles the game, or takes it from the cache, and starts it.

        Raises:
            ConfigError: an option is wrong.
            EnvironmentError_: the game could not be generated or compiled, or shows its objective.
        """
        self._set_up(spec, seed)
        self._open()
        self.layout = _layout(self._state["game"])

    def _set_up(self, spec: EnvSpec, seed: int) -> None:
        self._options, self._seed = parse_options(self.Options, spec), seed
        self._backend: Any = None
        self._return, self._terminated = 0.0, False

    def _open(self) -> None:
        """Starts the game and looks around."""
        self._backend = _start(self._compiled(self._options, self._seed))
        self._state = self._backend.reset()
        self._first = self._observation("")
        refuse_objective(self._first, self._state["objective"])

    @classmethod
    def prepare(cls, spec: EnvSpec, seeds: Sequence[int], workers: int = 1) -> None:
        """Generates and compiles the games of `seeds` in `workers` processes, with a progress bar on stderr.

        Raises:
            ConfigError: an option is wrong.
            EnvironmentError_: a game could not be generated or compiled.
        """
        options = parse_options(cls.Options, spec)
        missing = list({_key(cls, options, seed): seed for seed in seeds if not _cached(cls, options, seed)}.values())
        if len(missing) > 1 and workers > 1:
            _compile_in_parallel(cls, options, missing, workers)
        else:
            for seed in missing:
                cls._compiled(options, seed)

    @classmethod
    def _compiled(cls, options: Any, seed: int) -> Path:
        """The compiled game's file, created if it is not in the cache."""
        folder = cached_folder(
            cache_root("textworld"), _key(cls, options, seed), lambda target: _compile(cls, options, seed, target)
        )
        return folder / engine.GAME

    @classmethod
    def _content(cls, options: Any, seed: int) -> list[Any]:
        """What decides a game, as JSON; how observations are shown is left out."""
        return [options.model_dump(mode="json", exclude={"show_commands"}), seed]

    @classmethod
    def _made(cls, options: Any, seed: int) -> tuple[Any, Any]:
        """The game and its generator options."""
        return _generate(cls, options, seed)

    @classmethod
    def _generate(cls, options: Any, game_options: Any) -> Any:
        """The game from TextWorld's generators."""
        raise AssertionError("every generated TextWorld game says how")

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
        """Plays a command. Inadmissible commands get a message and are not passed to the interpreter."""
        if self._terminated:
            return Step("The game is over.", 0.0, True)
        command = self._admissible(action or "")
        if command is None:
            return Step(self._observation(NOT_POSSIBLE), 0.0, False)
        self._state, _, _ = self._backend.step(command)
        self._terminated = bool(self._state["won"] or self._state["lost"])
        share = self._state["score"] / max(1, self._state["max_score"])
        before, self._return = self._return, 1.0 if self._state["won"] else min(0.99, share)
        return Step(self._observation(tidy(self._state["feedback"])), self._return - before, self._terminated)

    def feedback(self, *, truncated: bool) -> str:
        """Success or failure with the game's last message and the score, or the round limit."""
        score = f"(score {self._state['score']} of {self._state['max_score']})"
        if self._terminated:
            return f"{'Success' if self._return >= 1.0 else 'Failure'}: {self._reason()} {score}"
        reason = "round limit reached" if truncated else "the episode was not finished"
        return f"Failure: {reason} {score}"

    def _reason(self) -> str:
        """The game's last message."""
        return " ".join(tidy(self._state["feedback"]).split("***")[0].split())

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
            if self._options.show_commands:
                parts.append("Possible commands: " + ", ".join(f"[{c}]" for c in self._state["admissible_commands"]))
        return "\n\n".join(part for part in parts if part)

    def _over(self) -> bool:
        return bool(self._state["won"] or self._state["lost"])


class CoinCollector(TextWorldGame):
    """TextWorld's Coin Collector: rooms in a chain, with or without dead ends, and one thing that counts."""

    Options = CoinCollectorOptions

    @classmethod
    def _generate(cls, options: CoinCollectorOptions, game_options: Any) -> Any:
        return engine.coin_collector(options, game_options)


class TreasureHunter(TextWorldGame):
    """TextWorld's Treasure Hunter: a maze with one right thing to take and one wrong one."""

    Options = TreasureHunterOptions

    @classmethod
    def _generate(cls, options: TreasureHunterOptions, game_options: Any) -> Any:
        return engine.treasure_hunter(options, game_options)


class Cooking(TextWorldGame):
    """TextWorld's cooking game: its recipe is somewhere in its world."""

    Options = CookingOptions

    @classmethod
    def _generate(cls, options: CookingOptions, game_options: Any) -> Any:
        return engine.cooking(options, game_options)


class CustomGame(TextWorldGame):
    """A game of TextWorld's general generator: a house, objects and a quest of a chosen length."""

    Options = CustomOptions

    @classmethod
    def _generate(cls, options: CustomOptions, game_options: Any) -> Any:
        return engine.custom(options, game_options)


def _key(cls: type[TextWorldGame], options: TextWorldOptions, seed: int) -> str:
    """Digest of everything that decides a game's content."""
    content = [_CACHE_FORMAT, version("textworld"), cls.__name__, *cls._content(options, seed)]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def _cached(cls: type[TextWorldGame], options: TextWorldOptions, seed: int) -> bool:
    return (cache_root("textworld") / _key(cls, options, seed)).is_dir()


def _compile(cls: type[TextWorldGame], options: TextWorldOptions, seed: int, folder: Path) -> None:
    """Writes game.z8 and game.json."""
    game, game_options = cls._made(options, seed)
    try:
        engine.compile_game(game, game_options, folder)
    except Exception as error:
        raise EnvironmentError_(
            f"{cls.__name__} with {options} for seed {seed} did not compile: {error}. "
            "Choose a smaller game, or check that textworld's Inform 7 runs on this machine"
        ) from error


def _generate(cls: type[TextWorldGame], options: TextWorldOptions, seed: int) -> tuple[Any, Any]:
    """A game and its generator options. The first seed that gives a game wins: the given one, then derived ones.

    TextWorld's generators fail on some seeds (no quest of that length on that map, no preparation for that food),
    with whatever exception comes first; deriving the next seed keeps the result a function of the first.
    """
    error: Exception | None = None
    for attempt in range(_GENERATION_ATTEMPTS):
        game_options = engine.new_options(narrow_seed(seed, attempt, "textworld"))
        try:
            with engine.quiet():
                return cls._generate(options, game_options), game_options
        except Exception as failure:
            error = failure
    raise EnvironmentError_(
        f"{cls.__name__} with {options} gave no game for seed {seed} in {_GENERATION_ATTEMPTS} attempts: {error!r}. "
        "Choose other options"
    ) from error


def _compile_in_parallel(cls: type[TextWorldGame], options: Any, seeds: Sequence[int], workers: int) -> None:
    from rich.console import Console
    from rich.progress import track

    with ProcessPoolExecutor(min(workers, len(seeds)), mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(cls._compiled, options, seed) for seed in seeds]
        done = track(as_completed(jobs), "Making games", total=len(jobs), console=Console(stderr=True))
        for job in done:
            job.result()


def _start(path: Path) -> Any:
    try:
        return engine.start(path)
    except Exception as error:
        raise EnvironmentError_(f"{path.parent} is not a playable game: {error}. Delete that folder") from error


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
