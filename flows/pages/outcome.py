"""The outcome of a trigger as a line of text, details, and the final state of its flow run."""

from collections.abc import Sequence
from typing import TypeVar

from prefect import State
from prefect.client.schemas.objects import StateType

from flows.outcomes import SHOWN
from oel_core.projects.settings import change_lines
from oel_core.projects.triggers import Trigger
from oel_core.runs.folder import RunFolder
from oel_core.runs.round_start import read_start
from oel_core.text.markdown import MAX_CHARACTERS
from oel_core.text.visible import visible_line

T = TypeVar("T")


def outcome_state(trigger: Trigger, details: Sequence[str] = (), data: T | None = None) -> State[T]:
    """The final state of a trigger's flow run; its message has one line per detail.

    `data` is the flow run's result.
    """
    shown, message = SHOWN[trigger.outcome], "\n".join([outcome_line(trigger), *details])
    return State(type=StateType(shown.kind), name=shown.state, message=message, data=data)


def outcome_line(trigger: Trigger) -> str:
    """The outcome in one line."""
    which = f"round {trigger.round} {trigger.outcome}" if trigger.round is not None else trigger.outcome
    first, _, _ = trigger.detail.partition("\n")
    return f"{which}: {visible_line(first, MAX_CHARACTERS)}" if first else which


def outcome_details(run: RunFolder, trigger: Trigger) -> list[str]:
    """Details of the outcome: changed settings, unusable lines of the inbox with their reasons."""
    start = read_start(run, trigger.round) if trigger.round is not None else None
    left_out = start.inbox_left_out if start is not None else ()
    return [visible_line(line, MAX_CHARACTERS) for line in [*change_lines(run, trigger.id), *left_out, *_more(trigger)]]


def _more(trigger: Trigger) -> list[str]:
    return trigger.detail.split("\n")[1:]
