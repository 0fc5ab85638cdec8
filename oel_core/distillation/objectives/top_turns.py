"""Which turns of a step are worth training on: those where teacher and student differ most."""

import math
from collections.abc import Sequence


def top_turns(trajectories: Sequence[str], divergence: Sequence[float], share: float) -> list[int]:
    """Positions of the `share` of all turns with the largest divergence, fairly over trajectories.

    Every trajectory gives its best turn before any gives its second, and so on, the larger divergence first. So a
    long episode cannot take the places of many short ones.

    Args:
        trajectories: of each turn, the one that it belongs to.
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
