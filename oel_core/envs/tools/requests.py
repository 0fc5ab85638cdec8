"""Requests in natural language: a kind, slot values and a wording, drawn for a share of the layouts."""

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
"""Of a rare kind beside 1 for a common one."""
_WORDINGS: Final[dict[Share, slice]] = {"train": slice(3), "validation": slice(3, 4), "held_out": slice(4, 6)}
_FRAMES: Final[dict[Share, tuple[str, ...]]] = {
    "train": ("{upper}.", "Please {lower}.", "Can you {lower}?"),
    "validation": ("I want you to {lower}.",),
    "held_out": ("Would you {lower} for me?", "{upper}, thanks."),
}


@dataclass(frozen=True)
class Request:
    """What a user asks for, and the call that serves it."""

    kind: str
    text: str
    call: Call


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
    return Request(kind.name, text, tool.call(kind.name, values))


def draw_kinds(tool: Tool, count: int, rng: random.Random) -> list[Kind]:
    """Kinds for the requests of one episode.

    A single request may be of any kind, rare ones at `RARE_WEIGHT`. Of several, the first ones are of the tool's common
    kinds and the last is of a rare one: only a player who serves the others gets to see it.
    """
    kinds = [command.kind for command in tool.commands]
    common, rare = kinds[: -tool.rare], kinds[-tool.rare :]
    if count == 1:
        return rng.choices(kinds, [1.0] * len(common) + [RARE_WEIGHT] * len(rare))
    return [*rng.sample(common, count - 1), rng.choice(rare)]


def example_requests(tool: Tool, kind: Kind) -> list[Request]:
    """The same requests of that kind every time, of the training share, for knowledge that is known to be true.

    One is enough, but for a kind that names a level: no level can be worked out from the others, so each has its own.
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
