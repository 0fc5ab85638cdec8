"""Frozen Lake and Sokoban of TextArena (https://github.com/LeonGuertler/TextArena), played without their rules.

The games themselves are unmodified. What differs from TextArena's own wrappers: the rules text is taken from the
game at run time and removed, messages carry no `[GAME]` prefix, and the player's own action is not echoed.
"""

import hashlib
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from oel_core.envs.base import HIDDEN_RULES, LEARN_RULES, EnvSpec, Step
from oel_core.envs.grid import GRID_INTRO, parse_grid_action
from oel_core.envs.options import EnvOptions, parse_options
from oel_core.errors import EnvironmentError_
from oel_core.seeds import narrow_seed

_MOVES = frozenset({"up", "down", "left", "right"})
_GLOBAL_RANDOMNESS = threading.Lock()
_GENERATION_ATTEMPTS = 4


class FrozenLakeOptions(EnvOptions):
    """Options of `frozen_lake`; the defaults are the paper's."""

    size: int = Field(default=3, ge=2, le=12)
    """Cells along one side."""
    holes: int = Field(default=2, ge=0)
    """Hole cells; at most a third of the board, since above that the game often fails to generate a solvable one."""

    @model_validator(mode="after")
    def _solvable(self) -> Self:
        most = self.size**2 // 3
        if self.holes > most:
            raise ValueError(f"holes is {self.holes}, but a {self.size}x{self.size} board has room for {most}")
        return self


class SokobanOptions(EnvOptions):
    """Options of `sokoban`; the defaults are the paper's."""

    size: int = Field(default=6, ge=5, le=10)
    """Cells along one side, outer walls included."""
    boxes: int = Field(default=1, ge=1, le=3)
    """Number of boxes and of targets."""


class _GridGame:
    """One episode of a TextArena grid game."""

    Options: ClassVar[type[EnvOptions]]
    instructions = HIDDEN_RULES
    intro = GRID_INTRO
    extraction_task = LEARN_RULES
    _env_id: ClassVar[str]
    _rules_function: ClassVar[str]
    """Name of the game's function that writes its rules."""

    def __init__(self, spec: EnvSpec, seed: int) -> None:
        """Creates and resets the game.

        Raises:
            ConfigError: an option is wrong.
            EnvironmentError_: the game could not be generated, or its rules text could not be removed.
        """
        options = parse_options(self.Options, spec)
        self._game = _make_and_reset(self._env_id, self._arguments(options), seed)
        self._lift_turn_limit(spec.max_turns)
        self._first = self._without_rules(self._messages())
        self.layout = hashlib.sha256(self._first.encode()).hexdigest()[:16]
        self._last = Step(self._first, 0.0, False)

    def _arguments(self, options: Any) -> dict[str, Any]:
        """The game's constructor arguments."""
        raise AssertionError("every grid game says how its options map")

    def start(self) -> str:
        """The first observation: the board alone."""
        return self._first

    def parse(self, response: str) -> str | None:
        """The last bracketed move, as `up`, `down`, `left` or `right`."""
        return parse_grid_action(response)

    def step(self, action: str | None) -> Step:
        """Plays a move. Anything else is an invalid move; the game ends after two invalid moves in a row."""
        if self._last.terminated:
            return Step("The game is over.", 0.0, True)
        # TextArena takes the first match of whatever it is given, so it only ever sees the one move.
        self._game.step(f"[{action}]" if action in _MOVES else "")
        done = bool(self._game.state.done)
        observation = "\n".join(self._messages()) or self._reason()
        # The reward of a lost Frozen Lake is the share of the way that was covered, below 1.
        reward = min(1.0, float(self._game.state.rewards[0])) if done else 0.0
        self._last = Step(observation, reward, done)
        return self._last

    def feedback(self, *, truncated: bool) -> str:
        """Success or failure with the game's own reason, or the round limit."""
        if self._last.terminated:
            return f"{'Success' if self._last.reward >= 1.0 else 'Failure'}: {self._reason()}"
        return "Failure: round limit reached" if truncated else "Failure: the episode was not finished"

    def close(self) -> None:
        """No-op."""

    def _reason(self) -> str:
        return str(self._game.state.game_info[0].get("reason", ""))

    def _messages(self) -> list[str]:
        """New messages of the game since the last call, without the echoed action."""
        import textarena

        _, observations = self._game.get_observation()
        return [message for sender, message, _ in observations if sender == textarena.GAME_ID]

    def _without_rules(self, messages: Sequence[str]) -> str:
        """The messages without the rules text, joined. Raises EnvironmentError_ if a rule would remain."""
        write = getattr(self._game, self._rules_function, None)
        rules = write(player_id=0, game_state=self._game.state.game_state) if callable(write) else ""
        if not rules.strip() or rules not in messages:
            raise EnvironmentError_(
                f"{self._env_id}: the rules text of the game was not found in its first observation, so it cannot "
                "be hidden. The installed textarena is not one this project knows: install the version in pyproject"
            )
        observation = "\n".join(message for message in messages if message != rules)
        leaked = [line for line in map(str.strip, rules.splitlines()) if line and line in observation]
        if leaked:
            raise EnvironmentError_(f"{self._env_id}: the first observation repeats the rules: {leaked[0]!r}")
        return observation

    def _lift_turn_limit(self, max_turns: int) -> None:
        """Raises the game's own turn limit above the rollout's."""
        limit = max_turns + 1
        self._game.state.max_turns = max(limit, self._game.state.max_turns)
        if hasattr(self._game, "max_turns"):
            self._game.max_turns = max(limit, self._game.max_turns)


class FrozenLake(_GridGame):
    """TextArena's Frozen Lake: cross a board with hidden rules; some cells end the game."""

    Options = FrozenLakeOptions
    _env_id = "FrozenLake-v0-raw"
    _rules_function = "_prompt"

    def _arguments(self, options: FrozenLakeOptions) -> dict[str, Any]:
        return {"size": options.size, "num_holes": options.holes}


class Sokoban(_GridGame):
    """TextArena's Sokoban: push boxes onto targets in a walled room."""

    Options = SokobanOptions
    _env_id = "Sokoban-v0-raw"
    _rules_function = "_generate_player_prompt"

    def _arguments(self, options: SokobanOptions) -> dict[str, Any]:
        return {"dim_room": (options.size, options.size), "num_boxes": options.boxes}


def _make_and_reset(env_id: str, arguments: dict[str, Any], seed: int) -> Any:
    """A game ready to play, from the first seed that yields a board: the given one, then derived ones.

    TextArena's Sokoban fails for some seeds; with derived seeds the result remains a function of the first one.
    """
    import textarena

    error: Exception | None = None
    for attempt in range(_GENERATION_ATTEMPTS):
        used = narrow_seed(seed, attempt, "textarena", env_id)
        with _global_randomness_restored():
            try:
                game = textarena.make(env_id, **arguments)
                game.reset(num_players=1, seed=used)
                return game
            except (RuntimeError, RuntimeWarning) as failure:
                error = failure
    raise EnvironmentError_(f"{env_id} with {arguments} gave no board for seed {seed}: {error}") from error


@contextmanager
def _global_randomness_restored() -> Iterator[None]:
    """Restores the process's global random generators, which TextArena seeds, on exit. One thread at a time."""
    with _GLOBAL_RANDOMNESS:
        python_state, numpy_state = random.getstate(), np.random.get_state()
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
