"""Options of the TextWorld environments, in a module of their own so that listings do not need TextWorld."""

from typing import Literal, Self

from pydantic import Field, model_validator

from oel_core.envs.options import EnvOptions


class TextWorldOptions(EnvOptions):
    """Options of every TextWorld environment."""

    show_commands: bool = True
    """List the possible commands in every observation."""


class CoinCollectorOptions(TextWorldOptions):
    """Options of `textworld_coin`."""

    level: int = Field(default=5, ge=1, le=300)
    """1-100: a chain of that many rooms; 101-200 and 201-300: with one or two dead ends a room, up to 100 rooms."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        rooms = ((self.level - 1) // 100 + 1) * ((self.level - 1) % 100 + 1)
        if rooms > 100:
            raise ValueError(f"level {self.level} has {rooms} rooms, TextWorld plays at most 100")
        return self


class TreasureHunterOptions(TextWorldOptions):
    """Options of `textworld_treasure`."""

    level: int = Field(default=3, ge=1, le=30)
    """1-10: 5 bare rooms; 11-20: 10 rooms with closed doors and containers; 21-30: 20 rooms with locked ones."""


class CookingOptions(TextWorldOptions):
    """Options of `textworld_cooking`."""

    recipe: int = Field(default=1, ge=1, le=5)
    """Ingredients of the recipe."""
    take: int = Field(default=1, ge=0, le=5)
    """Ingredients that have to be found; the others are carried from the start."""
    go: Literal[1, 6, 9, 12] = 1
    """Rooms."""
    open: bool = False
    """Doors and containers start closed."""
    cook: bool = False
    """Some ingredients have to be cooked."""
    cut: bool = False
    """Some ingredients have to be cut."""
    drop: bool = False
    """The player can carry only little."""
    split: Literal["train", "valid", "test"] | None = None
    """TextWorld's own split of foods and preparations; null draws from all."""

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.take > self.recipe:
            raise ValueError(f"take is {self.take}, but the recipe has only {self.recipe} ingredient(s)")
        return self


class CustomOptions(TextWorldOptions):
    """Options of `textworld_custom`."""

    rooms: int = Field(default=3, ge=1, le=50)
    """Rooms of the map."""
    objects: int = Field(default=5, ge=1, le=100)
    """Objects in the world, those of the quest counted."""
    quest_length: int = Field(default=3, ge=1, le=20)
    """Commands that the quest takes."""
    quest_breadth: int = Field(default=1, ge=1, le=5)
    """Independent parts of the quest."""
