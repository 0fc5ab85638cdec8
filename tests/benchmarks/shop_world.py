"""The shop of `examples/deployment` as an environment: conversations as its gateway records them, in one process.

For runs of many rounds with its seed-size model (`tests.benchmarks.months --world shop`). The player hands a customer's
request to one of sixteen desks by a function call, then tells the customer; a clerk corrects a part of the wrong calls.
"""

import hashlib
import importlib
import random
import sys
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from oel_core.cases.tool_calls import arguments, calls_in
from oel_core.envs.base import EnvSpec, Step
from oel_core.envs.options import EnvOptions, parse_options
from oel_core.envs.recorded import LEARN_FROM_CONVERSATIONS
from oel_core.types import ToolCall

EXAMPLE = Path(__file__).parents[2] / "examples" / "deployment"
sys.path.append(str(EXAMPLE))
corpus, shop, wordings = (importlib.import_module(name) for name in ("corpus", "shop", "wordings"))
CORRECTED = 0.7
"""Share of wrong calls that a clerk corrects, as in the example."""


class ShopOptions(EnvOptions):
    """Options of `ShopWorld`."""

    moved: int = Field(default=0, ge=0, le=len(shop.DESK_OF))
    """So many matters, the most frequent first, have exchanged their desks in a ring."""


def desks(moved: int) -> dict[str, str]:
    """The desk that takes care of each matter."""
    ring = list(shop.DESK_OF)[:moved]
    exchanged = {matter: shop.DESK_OF[after] for matter, after in zip(ring, ring[1:] + ring[:1], strict=True)}
    return {**shop.DESK_OF, **exchanged}


def facts(found: dict[str, str]) -> list[str]:
    """The items of knowledge that the example's model writes about these desks."""
    return [corpus.ITEM.format(matter=matter, desk=desk) for matter, desk in found.items()]


def untrue(moved: int, before: int) -> tuple[str, ...]:
    """Items that are wrong with `moved` and right with `before`."""
    return tuple(sorted(set(facts(desks(before))) - set(facts(desks(moved)))))


class ShopWorld:
    """One customer's visit: a call, its result, and an answer to the customer. The seed draws request and clerk."""

    Options: ClassVar = ShopOptions
    instructions: ClassVar[str] = shop.SYSTEM
    intro = ""
    extraction_task = LEARN_FROM_CONVERSATIONS
    functions: ClassVar = corpus.first_prompt(wordings.Request("refund", "x"))[0].tools

    def __init__(self, spec: EnvSpec, seed: int) -> None:
        """Raises ConfigError for a wrong option."""
        self._desks = desks(parse_options(ShopOptions, spec).moved)
        rng = random.Random(f"shop {seed}")
        self._request = wordings.draw_request(rng)
        self._clerk = rng.random() < CORRECTED
        self.layout = hashlib.sha256(self._request.text.encode()).hexdigest()[:16]
        self._said: str | None = None
        self._over = False

    def start(self) -> str:
        """The customer's request."""
        return self._request.text

    def parse(self, response: str) -> str | None:
        """The first call in the response, as JSON; texts to the customer are no actions."""
        found = calls_in(response)
        return found[0].model_dump_json() if found else None

    def step(self, action: str | None) -> Step:
        """The first call that can be carried out decides; the answer after it ends the visit."""
        handed = None if self._over or self._said is not None else self._handed(action)
        if handed is None:
            self._over = True
            return Step("", 0.0, terminated=True)
        good = handed == self._right
        correct = corpus.CALL.format(**self._right)
        self._said = "thumbs up" if good else f"thumbs down{f'; correct answer: {correct}' if self._clerk else ''}"
        return Step(shop.hand_over(**handed), float(good), terminated=False)

    def feedback(self, *, truncated: bool) -> str:
        """What people said, as a recorded conversation has it."""
        return f"human on answer 1: {self._said or 'thumbs down'}"

    def as_call(self, action: str) -> ToolCall:
        """See `oel_core.envs.base.FunctionCalling.as_call`."""
        return ToolCall.model_validate_json(action)

    def truths(self) -> str:
        """Which desk takes care of what."""
        return "\n".join(facts(self._desks))

    def close(self) -> None:
        """Nothing to free."""

    @property
    def _right(self) -> dict[str, str]:
        return {"matter": self._request.matter, "desk": self._desks[self._request.matter]}

    def _handed(self, action: str | None) -> dict[str, str] | None:
        """The arguments of a call of the tool; None for anything else."""
        found = calls_in(action or "")
        values = arguments(found[0]) if found and found[0].name == self.functions[0].name else None
        if not isinstance(values, dict) or set(values) != {"matter", "desk"}:
            return None
        return {name: str(value) for name, value in values.items()}
