"""Starts, stops and reports the services."""

import os
from collections.abc import Callable
from pathlib import Path

from flows.services.ports import require_free, require_loopback
from flows.services.postgres import check_url, ensure_databases
from flows.services.process import (
    HOME,
    Service,
    Started,
    State,
    clear,
    end,
    find,
    log_path,
    require_here,
    runs,
    start,
    started,
    wait_until_healthy,
)
from flows.services.servers import MLFLOW, PREFECT, UpSettings, ensure_pools, read_settings, services, write_settings
from oel_core.errors import BusyError, ConfigError
from oel_core.runs.groups import group_is_running
from oel_core.runs.lease import held
from oel_core.types import Record

LOCK = "up.lease.json"
OPTIONS = {PREFECT: "--prefect-port", MLFLOW: "--mlflow-port"}
POSTGRES = "OEL_POSTGRES"
Say = Callable[[str], None]


class ServiceStatus(Record):
    """Status of one service."""

    name: str
    state: State
    pid: int | None
    url: str
    since: float | None
    log: str


def up(root: Path, settings: UpSettings, postgres: str | None, *, expose: bool, timeout_s: float, say: Say) -> None:
    """Starts the services that are not running and waits until all are healthy.

    Raises:
        ConfigError: an address that other machines can reach, a port in use, or settings that differ from those of
            running services.
        ServiceError: a service does not become healthy; the others keep running, and a further `up` continues. Or
            another machine runs the services of this root.
    """
    require_loopback(settings.host, expose=expose)
    root.mkdir(parents=True, exist_ok=True)
    with held(root / HOME / LOCK, "oel up"):
        for one in started(root):
            require_here(root, one)
        _require_same_settings(root, settings)
        if postgres is not None:
            check_url(postgres)
            ensure_databases(postgres)
        wanted = services(root, settings, postgres)
        missing = [service for service in wanted if not _runs(root, service.name)]
        _require_ports(root, settings, missing)
        write_settings(root, settings)
        for service in wanted:
            _bring_up(root, service, service in missing, timeout_s, say)
            if service.name == PREFECT:
                ensure_pools(settings)


def _bring_up(root: Path, service: Service, missing: bool, timeout_s: float, say: Say) -> None:
    """Sequential start: a worker needs its server, and small machines cannot start two at once."""
    one = find(root, service.name)
    if missing or one is None:
        say(f"{service.name}: restarting, it had died" if one is not None else f"{service.name}: starting")
        one = start(root, service)
    wait_until_healthy(root, service, one, timeout_s)
    say(f"{service.name}: {service.url}")


def no_process_runs(root: Path) -> bool:
    """Whether no process that was started under `root` is running."""
    return not any(group_is_running(group) for one in started(root) for group in one.groups)


def _runs(root: Path, name: str) -> bool:
    one = find(root, name)
    return one is not None and runs(one)


def _require_same_settings(root: Path, settings: UpSettings) -> None:
    before = read_settings(root)
    if before is None or before == settings or not any(runs(one) for one in started(root)):
        return
    changed = [name for name in UpSettings.model_fields if getattr(before, name) != getattr(settings, name)]
    raise ConfigError(
        f"the services of {root} run with another {' and '.join(changed)}: `oel down --root {root}` first, or leave "
        "the options out to keep what is running"
    )


def _require_ports(root: Path, settings: UpSettings, missing: list[Service]) -> None:
    """Checks ports, after clearing a dead service's remaining processes, which may hold one."""
    ports = {PREFECT: settings.prefect_port, MLFLOW: settings.mlflow_port}
    for service in missing:
        clear(root, service)
        if service.name in ports:
            require_free(settings.host, ports[service.name], f"{service.name} server", OPTIONS[service.name])


def down(root: Path, *, grace_s: float, say: Say) -> list[str]:
    """Terminates the process groups of all services under `root`, workers first; returns their names.

    Running flow runs are killed; the next flow run resumes their rounds.
    """
    if not (root / HOME).is_dir():
        return []
    try:
        with held(root / HOME / LOCK, "oel down"):
            ended = []
            for one in sorted(started(root), key=lambda one: one.name in (PREFECT, MLFLOW)):
                end(root, one, grace_s=grace_s)
                say(f"{one.name}: ended")
                ended.append(one.name)
            return ended
    except BusyError as error:
        raise ConfigError(f"{error}: `oel up` is at work here") from error


def status(root: Path) -> list[ServiceStatus]:
    """Status of every service of the last `oel up`; an empty list without one."""
    settings = read_settings(root)
    if settings is None:
        return []
    return [_status(root, service) for service in services(root, settings, None)]


def _status(root: Path, service: Service) -> ServiceStatus:
    one = find(root, service.name)
    return ServiceStatus(
        name=service.name,
        state=_state(one, service),
        pid=one.process.pid if one is not None else None,
        url=service.url,
        since=one.since if one is not None else None,
        log=str(log_path(root, service.name)),
    )


def _state(one: Started | None, service: Service) -> State:
    if one is None:
        return "stopped"
    if not runs(one):
        return "dead"
    return "running" if service.healthy() else "unhealthy"


def postgres_address(given: str | None, settings: UpSettings | None) -> str | None:
    """The given address, else `$OEL_POSTGRES`; it is stored nowhere.

    Raises:
        ConfigError: the root's data are in PostgreSQL and the address is not known.
    """
    address = given or os.environ.get(POSTGRES)
    if address is None and settings is not None and settings.postgres:
        raise ConfigError(f"this root's services use PostgreSQL: give its address with --postgres or ${POSTGRES}")
    return address
