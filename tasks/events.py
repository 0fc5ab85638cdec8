"""Events of a project for Prefect's automations: `oel.alarm.<name>`, and `oel.rollback` for a champion taken back."""

import logging
from collections.abc import Mapping

from prefect.events import emit_event
from prefect.settings import PREFECT_API_URL

from oel_core.runs.folder import RunFolder
from tasks.tracking.registry import Move

log = logging.getLogger(__name__)
ALARM, ROLLBACK = "oel.alarm.", "oel.rollback"


def emit(run: RunFolder, event: str, said: Mapping[str, object]) -> None:
    """Sends an event to the configured Prefect server; sent at the latest when the process ends.

    Without a server nothing is sent: Prefect would start one for this process alone, without any automation.
    """
    if not PREFECT_API_URL.value():
        log.info("no Prefect server is configured, so no automation learns of %s of %s", event, run.name)
        return
    resource = {"prefect.resource.id": f"oel.project.{run.name}"}
    emit_event(event, resource=resource, payload={"project": run.name, **said})


def emit_rollback(run: RunFolder, move: Move) -> None:
    """Sends that the champion was taken back."""
    now = f"version {move.champion}" if move.champion is not None else "the preset's model"
    text = f"version {move.replaced} is no longer the champion, {now} is again: {move.reason}"
    said = {"text": text, "version": move.champion, "replaced": move.replaced, "by": move.by, "at": move.at}
    emit(run, ROLLBACK, said)
