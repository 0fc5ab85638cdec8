"""What came of a trigger: its line, its details, and the last state of its flow run."""

from collections.abc import Sequence
from typing import TypeVar

from prefect import State
from prefect.client.schemas.objects import StateType

from flows.outcomes import SHOWN
from oel_core.projects.settings import change_lines
from oel_core.projects.triggers import Trigger
from oel_core.runs.folder import RunFolder
from oel_core.runs.round_start import read_start
from oel_core.text.markdown import MOST
from oel_core.text.visible import visible_line

T = TypeVar("T")


def outcome_state(trigger: Trigger, details: Sequence[str] = (), data: T | None = None) -> State[T]:
    """The last state of the flow run of a trigger that has an outcome; its message has a line for each detail.

    `data` is what the flow run returns.
    """
    shown, message = SHOWN[trigger.outcome], "\n".join([outcome_line(trigger), *details])
    return State(type=StateType(shown.kind), name=shown.state, message=message, data=data)


def outcome_line(trigger: Trigger) -> str:
    """What came of a trigger, in one line."""
    which = f"round {trigger.round} {trigger.outcome}" if trigger.round is not None else trigger.outcome
    first, _, _ = trigger.detail.partition("\n")
    return f"{which}: {visible_line(first, MOST)}" if first else which


def outcome_details(run: RunFolder, trigger: Trigger) -> list[str]:
    """What else there is to say of it: which settings it changed, which lines of the inbox were left out and why."""
    start = read_start(run, trigger.round) if trigger.round is not None else None
    left_out = start.inbox_left_out if start is not None else ()
    return [visible_line(line, MOST) for line in [*change_lines(run, trigger.id), *left_out, *_more(trigger)]]


def _more(trigger: Trigger) -> list[str]:
    return trigger.detail.split("\n")[1:]
