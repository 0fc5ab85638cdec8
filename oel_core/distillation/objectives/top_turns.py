"""Selects the turns with the largest divergence between student and teacher."""

import math
from collections.abc import Sequence


def top_turns(trajectories: Sequence[str], divergence: Sequence[float], share: float) -> list[int]:
    """Indices of the `share` of all turns with the largest divergence, balanced over trajectories.

    Turns are ranked within their trajectory first: all first-ranked turns come before any second-ranked one, larger
    divergence first. So a long episode does not displace many short ones.

    Args:
        trajectories: trajectory id of each turn.
        divergence: of each turn, nats per response token.
        share: of the turns that is kept, 0 < share <= 1; rounded up to whole turns.

    Returns:
        In ascending order.
    """
    order = sorted(range(len(divergence)), key=lambda turn: (-divergence[turn], turn))
    taken: dict[str, int] = {}
    places = []
    for turn in order:
        rank = taken.get(trajectories[turn], 0)
        taken[trajectories[turn]] = rank + 1
        places.append((rank, -divergence[turn], turn))
    count = math.ceil(share * len(divergence) - 1e-9)  # 0.1 * 30 is a little more than 3
    return sorted(turn for _, _, turn in sorted(places)[:count])
