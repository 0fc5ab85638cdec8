"""Requests in natural language: a kind, slot values and a wording, sampled for a share of the layouts."""

import random
from dataclasses import dataclass
from typing import Any, Final, Literal

from oel_core.envs.shares import Share
from oel_core.envs.tools.conventions import LEVELS, spoken
from oel_core.envs.tools.kinds import SLOT_TYPES, Kind
from oel_core.envs.tools.tool import Call, Tool
from oel_core.envs.tools.values import draw_value
from oel_core.envs.tools.vocabulary import Theme

Wordings = Literal["by_share", "all"]
RARE_WEIGHT: Final = 0.25
"""Sampling weight of a rare kind; a common one has 1."""
_WORDINGS: Final[dict[Share, slice]] = {"train": slice(3), "validation": slice(3, 4), "held_out": slice(4, 6)}
_FRAMES: Final[dict[Share, tuple[str, ...]]] = {
    "train": ("{upper}.", "Please {lower}.", "Can you {lower}?"),
    "validation": ("I want you to {lower}.",),
    "held_out": ("Would you {lower} for me?", "{upper}, thanks."),
}


@dataclass(frozen=True)
class Request:
    """A user's request and the calls that fulfil it."""

    kind: str
    text: str
    calls: tuple[Call, ...]
    """In order; one, or two if a separate call confirms it."""

    @property
    def call(self) -> Call:
        """The first call."""
        return self.calls[0]


def draw_request(tool: Tool, kind: Kind, share: Share, wordings: Wordings, rng: random.Random) -> Request:
    """A request of that kind. Its slot values are the share's own; so is its wording with `by_share`."""
    values = {slot: draw_value(SLOT_TYPES[slot], share, rng) for slot in kind.slots}
    while values.get("source") is not None and values["source"] == values["target"]:
        values["target"] = draw_value("city", share, rng)
    own = wordings == "by_share"
    imperatives = kind.wordings[_WORDINGS[share]] if own else kind.wordings
    frames = _FRAMES[share] if own else tuple(frame for frames in _FRAMES.values() for frame in frames)
    lower = rng.choice(imperatives).format(**_words(tool.theme), **_spoken(tool.theme, values))
    text = rng.choice(frames).format(lower=lower, upper=lower[0].upper() + lower[1:])
    return Request(kind.name, text, tool.calls(kind.name, values))


def draw_kinds(tool: Tool, count: int, rng: random.Random) -> list[Kind]:
    """Kinds for the requests of one episode.

    A single request may be of any kind, rare ones with `RARE_WEIGHT`. Of several requests, the first are of common
    kinds and the last is of a rare one, so only a player who answers the others sees it.
    """
    kinds = [command.kind for command in tool.commands]
    common, rare = kinds[: -tool.rare], kinds[-tool.rare :]
    if count == 1:
        return rng.choices(kinds, [1.0] * len(common) + [RARE_WEIGHT] * len(rare))
    return [*rng.sample(common, count - 1), rng.choice(rare)]


def example_requests(tool: Tool, kind: Kind) -> list[Request]:
    """Fixed example requests of that kind, of the training share, for ground-truth knowledge.

    One is enough, except for a kind with a level: levels cannot be derived from each other, so each has its own
    example.
    """
    rng = random.Random(f"example/{tool.program}/{kind.name}")
    wanted = len(LEVELS) if "level" in kind.slots else 1
    examples: dict[Any, Request] = {}
    while len(examples) < wanted:
        request = draw_request(tool, kind, "train", "by_share", rng)
        examples.setdefault(dict(request.call.arguments).get("level"), request)
    return list(examples.values())


def _words(theme: Theme) -> dict[str, str]:
    return {"cases": f"{theme.spoken['case']}s", "things": f"{theme.spoken['thing']}s"}


def _spoken(theme: Theme, values: dict[str, Any]) -> dict[str, str]:
    said = {slot: spoken(SLOT_TYPES[slot], value) for slot, value in values.items()}
    nouns = {"case": theme.spoken["case"], "person": theme.spoken["person"], "thing": theme.spoken["thing"]}
    return {slot: f"{nouns[slot]} {text}" if slot in nouns else text for slot, text in said.items()}
