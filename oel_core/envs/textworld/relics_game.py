"""The relics (`oel_core.envs.textworld.relics`) as a TextWorld game."""

import random
from dataclasses import asdict
from typing import Any

from oel_core.envs.base import EnvSpec, Step
from oel_core.envs.textworld import engine, relics
from oel_core.envs.textworld.games import TextWorldGame
from oel_core.envs.textworld.relics import RelicsOptions


class Relics(TextWorldGame):
    """Four rooms of relics: some cursed, one a key, one a treasure that stays sealed without it.

    The game is compiled when the episode starts; until then only the board is drawn.
    """

    Options = RelicsOptions
    _options: RelicsOptions

    def __init__(self, spec: EnvSpec, seed: int) -> None:
        """Draws the board. Raises ConfigError for a wrong option."""
        self._set_up(spec, seed)
        self.board = _board(self._options, seed)
        self.layout = relics.layout(self.board)
        self._opened = False
        self._taken = ""

    def _open_once(self) -> None:
        if not self._opened:
            self._open()
            self._opened = True

    def start(self) -> str:
        """The first observation. Raises EnvironmentError_ where the game does not compile."""
        self._open_once()
        return super().start()

    def parse(self, response: str) -> str | None:
        """See `TextWorldGame.parse`."""
        self._open_once()
        return super().parse(response)

    def step(self, action: str | None) -> Step:
        """See `TextWorldGame.step`."""
        self._open_once()
        over = self._terminated
        step = super().step(action)
        if step.terminated and not over:
            self._taken = str(action).split()[-1].upper()
        return step

    def feedback(self, *, truncated: bool) -> str:
        """See `TextWorldGame.feedback`; the reason ends with what the relic was."""
        self._open_once()
        return super().feedback(truncated=truncated)

    def _reason(self) -> str:
        verdict = relics.verdict(self.board, self._taken, has_key=self._return >= 1.0)
        return f"{super()._reason()} {verdict}"

    def truths(self) -> str:
        """Ground-truth knowledge of this episode's letters, as an extractor would have written it."""
        return relics.truths(self.board)

    @classmethod
    def _content(cls, options: RelicsOptions, seed: int) -> list[Any]:
        """The whole game: seeds with the same board share it."""
        return [asdict(relics.hand_made(_board(options, seed)))]

    @classmethod
    def _made(cls, options: RelicsOptions, seed: int) -> tuple[Any, Any]:
        game_options = engine.new_options(0)  # nothing is left to chance
        return engine.by_hand(relics.hand_made(_board(options, seed)), game_options), game_options


def _board(options: RelicsOptions, seed: int) -> relics.Board:
    return relics.draw_board(options, random.Random(seed))
