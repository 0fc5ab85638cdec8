"""Checks the sessions of a project, reports new alarms, and rolls a champion back where the settings say so.

They are reported to the log, to Prefect (events, which automations can react to: `tasks.events`) and to the webhook in
`$OEL_ALARM_WEBHOOK`, which gets the alarm as JSON. Its address may hold a secret, so it is neither stored nor printed.
"""

import logging
import os
from urllib.parse import urlsplit

import httpx

from oel_core.errors import ConfigError
from oel_core.health.alarms import Finding, Raised, new_alarms, note_alarms
from oel_core.health.project import project_findings
from oel_core.runs.folder import RunFolder
from tasks.events import ALARM, emit, emit_rollback
from tasks.tracking.registry import PREVIOUS, Registry

log = logging.getLogger(__name__)
WEBHOOK, TIMEOUT_S = "OEL_ALARM_WEBHOOK", 10.0
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def watch(run: RunFolder, registry: Registry) -> list[Raised]:
    """Reports alarms that are new, and rolls back. Requires the project's lease.

    An alarm counts as reported even if Prefect or the webhook could not be reached; the log says so.

    Raises:
        ConfigError: the webhook's address is none, or would send alarms over the net unencrypted.
        ArtifactError: a file of the project is damaged.
    """
    address = address_in(WEBHOOK)
    found, version = findings(run, registry)
    new = new_alarms(run, found, version)
    worse = next((one for one in found if one.name == "champion" and one.alarm), None)
    back = worse is not None and run.config().alarms.rollback == "on" and registry.champion() is not None
    for alarm in new:
        _notify(run, alarm, rolled_back=back and alarm.name == "champion", address=address)
    if back and worse is not None:
        emit_rollback(run, registry.rollback(reason=f"alarm: {worse.text}"))
    note_alarms(run, found, version, new)
    return new


def findings(run: RunFolder, registry: Registry) -> tuple[list[Finding], str]:
    """The findings about a project as it is now, and the label of its champion."""
    champion, previous = registry.champion(), registry.aliased(PREVIOUS)
    label, before = (one.version if one is not None else "base" for one in (champion, previous))
    return project_findings(run.config(), run, label, before), label


def address_in(variable: str) -> str | None:
    """The webhook's address in an environment variable. ConfigError: not https, and not http of this machine."""
    address = os.environ.get(variable, "").strip()
    if not address:
        return None
    parts = urlsplit(address)
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)):
        raise ConfigError(f"${variable} must be an address with https://, or with http:// on this machine")
    return address


def _notify(run: RunFolder, alarm: Raised, *, rolled_back: bool, address: str | None) -> None:
    said = {
        "project": run.name,
        "alarm": alarm.name,
        "version": alarm.about,
        "text": alarm.text,
        "at": alarm.at,
        "rolled_back": rolled_back,
    }
    log.warning("alarm of %s, %s: %s%s", run.name, alarm.name, alarm.text, "; rolled back" if rolled_back else "")
    emit(run, f"{ALARM}{alarm.name}", said)
    if address is None:
        return
    try:
        httpx.post(address, json=said, timeout=TIMEOUT_S, follow_redirects=False).raise_for_status()
    except httpx.HTTPStatusError as error:
        log.warning("the webhook in $%s answered with status %d", WEBHOOK, error.response.status_code)
    except httpx.HTTPError as error:
        log.warning("the webhook in $%s could not be reached: %s", WEBHOOK, type(error).__name__)
