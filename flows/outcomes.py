"""Maps a recurring round's outcome to the final state of its flow run and the exit code of `oel trigger --wait`.

The state's type determines the colour in the Prefect UI and what automations see: completed (green) for a new champion,
cancelled (grey) for a regular end without one, failed (red) for an error that needs attention.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from oel_core.projects.triggers import Outcome


@dataclass(frozen=True)
class Shown:
    """Final state and exit code of one outcome."""

    state: str
    """Name of the flow run's final state."""
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
"""All outcomes that end a flow run. Exit code 2 is reserved for usage errors."""

_BY_STATE = {shown.state: shown for shown in SHOWN.values()}


def exit_code(state_name: str | None, *, completed: bool) -> int:
    """The exit code of a flow run's final state; for other state names 0 if completed, else 1."""
    shown = _BY_STATE.get(state_name or "")
    return shown.exit_code if shown is not None else int(not completed)


def can_resume(state_name: str | None, *, completed: bool) -> bool:
    """Whether the same trigger id starts another flow run after this final state."""
    shown = _BY_STATE.get(state_name or "")
    return not completed if shown is None else shown.kind == "FAILED" or shown is SHOWN["undecided"]
