"""How a recurring round's outcome shows: name and type of its flow run's last state, exit code of `oel trigger --wait`.

The state's type gives the colour in the Prefect UI, and says whether an automation sees a success or a failure. Of the
types a flow run can end in, completed (green) is for a new champion, cancelled (grey) for an end without one at which
nothing is wrong, failed (red) for what somebody has to look at.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from oel_core.projects.triggers import Outcome


@dataclass(frozen=True)
class Shown:
    """One outcome as Prefect and a shell see it."""

    state: str
    """Name of the flow run's last state."""
    kind: Literal["COMPLETED", "CANCELLED", "FAILED"]
    """Type of that state."""
    exit_code: int


SHOWN: Mapping[Outcome, Shown] = {
    "promoted": Shown("Promoted", "COMPLETED", 0),
    "failed": Shown("Failed", "FAILED", 1),
    "refused": Shown("Refused", "CANCELLED", 3),
    "waiting": Shown("AwaitingExperience", "CANCELLED", 4),
    "undecided": Shown("AwaitingReview", "CANCELLED", 5),
    "unusable": Shown("InboxUnusable", "FAILED", 6),
}
"""Every outcome with which a flow run can end. 2 is left out: it is the exit code of wrong usage."""

_BY_STATE = {shown.state: shown for shown in SHOWN.values()}


def exit_code(state_name: str | None, *, completed: bool) -> int:
    """The exit code of a flow run's last state; of one that no outcome names it is 0 when completed and else 1."""
    shown = _BY_STATE.get(state_name or "")
    return shown.exit_code if shown is not None else int(not completed)


def goes_on(state_name: str | None, *, completed: bool) -> bool:
    """Whether the same trigger id starts another flow run after one that ended in this state."""
    shown = _BY_STATE.get(state_name or "")
    return not completed if shown is None else shown.kind == "FAILED" or shown is SHOWN["undecided"]
