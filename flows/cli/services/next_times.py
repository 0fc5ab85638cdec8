"""Next start times of a deployment's schedules, for `oel schedule`."""

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flows.cli.shared import out, print_json

if TYPE_CHECKING:
    from prefect.client.schemas.objects import DeploymentSchedule
    from prefect.client.schemas.responses import DeploymentResponse

SHOWN = 3
"""Number of start times shown per schedule."""


def show_schedules(found: "DeploymentResponse", as_json: bool) -> None:
    """Prints every schedule of a deployment: cron expression, project, next start times in its time zone."""
    now = datetime.now(UTC)
    rows = [(one, next_times(one, now)) for one in found.schedules]
    if as_json:
        print_json(
            [
                {
                    "deployment": found.name,
                    "cron": getattr(one.schedule, "cron", None),
                    "timezone": getattr(one.schedule, "timezone", None),
                    "active": one.active,
                    "parameters": one.parameters or {},
                    "next": [time.isoformat() for time in times],
                }
                for one, times in rows
            ]
        )
        return
    if not rows:
        _say(f"{found.name}: no schedule")
    for one, times in rows:
        when = getattr(one.schedule, "cron", str(one.schedule))
        zone = getattr(one.schedule, "timezone", "") or ""
        _say(f"{found.name}: {when} {zone} {'' if one.active else '(paused) '}{one.parameters or ''}".rstrip())
        if times:
            _say("  next: " + ", ".join(time.strftime("%a %Y-%m-%d %H:%M") for time in times))


def next_times(one: "DeploymentSchedule", now: datetime) -> list[datetime]:
    """The next start times after `now` in the schedule's time zone, computed by Prefect; empty when paused."""
    from prefect.server.schemas import schedules

    kind = getattr(schedules, type(one.schedule).__name__, None)
    if kind is None or not one.active:
        return []
    return list(asyncio.run(kind.model_validate(one.schedule.model_dump()).get_dates(n=SHOWN, start=now)))


def _say(line: str) -> None:
    out.print(line, highlight=False, markup=False, soft_wrap=True)
