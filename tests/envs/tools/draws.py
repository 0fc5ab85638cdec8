"""Tools, requests and calls for tests of the tool world."""

import random

from hypothesis import strategies as st

from oel_core.envs.shares import Share
from oel_core.envs.tools.env import SURFACES
from oel_core.envs.tools.kinds import KINDS
from oel_core.envs.tools.requests import Request, draw_request
from oel_core.envs.tools.surface import Surface
from oel_core.envs.tools.tool import Tool, draw_tool

SHARES: tuple[Share, ...] = ("train", "validation", "held_out")
surfaces = st.sampled_from(sorted(SURFACES)).map(SURFACES.__getitem__)
tools = st.integers(1, 10_000).map(lambda number: draw_tool(number, len(KINDS)))
confirmed_by_call = st.integers(1, 10_000).map(lambda number: draw_tool(number, len(KINDS), "second_call"))


@st.composite
def requests(draw: st.DrawFn) -> tuple[Surface, Tool, Request]:
    """A surface, a tool with every kind of request, and one request to it."""
    tool, kind = draw(tools), draw(st.sampled_from(KINDS))
    rng = random.Random(draw(st.integers(0, 2**32)))
    return draw(surfaces), tool, draw_request(tool, kind, draw(st.sampled_from(SHARES)), "by_share", rng)
