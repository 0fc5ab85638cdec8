"""Differences between the texts of TextArena's Frozen Lake and the lake's, so that the seed model can read both."""

import random
import re

from oel_core.envs import lake
from oel_core.types import Trajectory

WALL_ANSWER = (
    "You attempted an invalid move. Reason: You tried to move ",
    " but hit a wall! Please resubmit a valid move and remember to follow the game rules to avoid penalties.\n",
)
WALL_ENDING = ("Invalid Move: You tried to move ", " but hit a wall!")


def wall_answer(action: str) -> str:
    """The line before the board after a first move into a wall."""
    return action.join(WALL_ANSWER)


def retell(trajectory: Trajectory, rng: random.Random) -> Trajectory:
    """The same episode with Frozen Lake's final text."""
    feedback, last = trajectory.feedback, trajectory.turns[-1]
    if lake.FELL in feedback:
        feedback += f" You completed {rng.randint(10, 95)}% of the journey to the goal."
    elif feedback == lake.ROUND_LIMIT and rng.random() < 0.5:
        feedback = "Failure: " + rng.choice(list(lake.MOVES)).join(WALL_ENDING)
    elif lake.WON in feedback:
        before = re.findall(r"\|  ([A-Z])  ", last.messages[-1].content)
        after = re.findall(r"\|  ([A-Z])  ", last.observation)
        goal = next(iter(sorted(set(before) - set(after))), "G")
        last = last.model_copy(update={"observation": last.observation.replace("  P  ", f" P/{goal} ")})
    return trajectory.model_copy(update={"feedback": feedback, "turns": (*trajectory.turns[:-1], last)})
