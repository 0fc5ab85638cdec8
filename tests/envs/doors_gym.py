"""A text environment as a package of somebody else would register it with Gymnasium."""

import gymnasium
from gymnasium.spaces import Discrete, Text

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,:"


class Doors(gymnasium.Env[str, str]):
    """Of two doors the seed's own has to be opened `needed` times."""

    observation_space = Text(200, charset=LETTERS)
    action_space = Text(5, charset="lefightr")

    def __init__(self, needed: int = 2) -> None:
        self._needed = needed

    def reset(self, *, seed: int | None = None, options: dict[str, object] | None = None) -> tuple[str, dict[str, str]]:
        super().reset(seed=seed)
        self._side, self._opened = ("left", "right")[int(self.np_random.integers(2))], 0
        return f"Room {self.np_random.integers(10**6)}, two doors.", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, str]]:
        right = action == self._side
        self._opened += right
        over = self._opened == self._needed
        return f"{action}: {self._opened} open.", float(right), over, False, {"feedback": f"It was {self._side}."}


class Numbers(Doors):
    """Not a text environment."""

    action_space = Discrete(2)  # type: ignore[assignment]


for name, cls in (("Doors", Doors), ("Numbers", Numbers)):
    if f"{name}-v0" not in gymnasium.registry:
        gymnasium.register(f"{name}-v0", cls, max_episode_steps=6)
