"""The relics as TextWorld renders them, computed without TextWorld: for corpora of millions of episodes."""

import random
import re

from oel_core.envs.base import HIDDEN_RULES, LEARN_RULES, EnvSpec, Step
from oel_core.envs.options import parse_options
from oel_core.envs.textworld import relics
from oel_core.envs.textworld.relics import Board, RelicsOptions
from oel_core.envs.textworld.text import INTRO, NOT_POSSIBLE

LOST, ENDED = "*** You lost! ***", "*** The End ***"
_COMMAND = re.compile(r"\[(?:go (north|south|east|west)|take relic ([A-Z]))\]")


def scored(score: int, most: int, turns: int) -> str:
    """The score line at the end of a game."""
    return f"You scored {score} out of a possible {most}, in {turns} turn{'' if turns == 1 else 's'}."


class Story:
    """One episode. Supports the commands that matter (`go`, `take`); all others are rejected as impossible.

    Its observations are those of `textworld_relics` with `show_commands: false`.
    """

    instructions = HIDDEN_RULES
    intro = INTRO
    extraction_task = LEARN_RULES

    def __init__(self, spec: EnvSpec, seed: int) -> None:
        """As `textworld_relics`. Raises ConfigError for a wrong option."""
        self.board: Board = relics.draw_board(parse_options(RelicsOptions, spec), random.Random(seed))
        self.layout = relics.layout(self.board)
        self.places: dict[str, int] = dict(self.board.places)
        """Letter → room of every relic that has not been taken."""
        self.carried: list[str] = []
        self.room = 0
        self._turns, self._said, self._verdict = 0, "", ""
        self._passed = False

    @property
    def most(self) -> int:
        """Maximum score."""
        return 1 + self.board.key

    @property
    def score(self) -> int:
        return int(bool(self.carried)) + int(self._passed)

    def observe(self, message: str = "") -> str:
        """The current observation, after `message`."""
        floor = [letter for letter, place in self.places.items() if place == self.room]
        shown = relics.view(self.room, floor, self.carried)
        return f"{message}\n\n{shown}" if message else shown

    def start(self) -> str:
        """The first observation."""
        return self.observe()

    def possible(self) -> list[str]:
        """The commands of `_COMMAND` that are possible now."""
        floor = [letter for letter, place in self.places.items() if place == self.room]
        return [f"go {way}" for way in relics.EXITS[self.room]] + [f"take relic {letter}" for letter in floor]

    def parse(self, response: str) -> str | None:
        """The last bracketed command of the response that is possible now."""
        asked = [match[0][1:-1] for match in _COMMAND.finditer(response)]
        return next((command for command in reversed(asked) if command in self.possible()), None)

    def step(self, action: str | None) -> Step:
        """Plays a command."""
        if self._verdict:
            return Step("The game is over.", 0.0, True)
        if action not in self.possible():
            return Step(self.observe(NOT_POSSIBLE), 0.0, False)
        self._turns += 1
        verb, *_, what = str(action).split()
        if verb == "go":
            self.room = relics.EXITS[self.room][what]
            return Step(self.observe(), 0.0, False)
        return self._take(what)

    @property
    def _return(self) -> float:
        """Rewards so far."""
        return 1.0 if self._passed else min(0.99, self.score / self.most)

    def _take(self, letter: str) -> Step:
        before = self._return
        self._said = letter.join(relics.PICKED_UP)
        verdict = relics.verdict(self.board, letter, has_key=bool(self.carried))
        del self.places[letter]
        if verdict is None:
            self.carried.append(letter)
            return Step(self.observe(f"{self._said}\n\n{relics.POINT}"), self._return - before, False)
        self._verdict, self._passed = verdict, verdict == relics.WON
        self._said += f"\n\n{relics.POINT}" if self._passed else ""
        ending = ENDED if self._passed else LOST
        turns = self._turns + self._passed  # a win is noticed after the turn was counted, a loss before
        said = f"{self._said}\n\n{ending}\n\n{scored(self.score, self.most, turns)}"
        return Step(said, self._return - before, True)

    def feedback(self, *, truncated: bool) -> str:
        """How the episode ended."""
        points = f"(score {self.score} of {self.most})"
        if self._verdict:
            kind = "Success" if self._passed else "Failure"
            return f"{kind}: {' '.join(self._said.split())} {self._verdict} {points}"
        return f"Failure: {'round limit reached' if truncated else 'the episode was not finished'} {points}"

    def truths(self) -> str:
        """Ground-truth knowledge of this episode's letters."""
        return relics.truths(self.board)

    def close(self) -> None:
        """No-op."""
