"""`oel deploy`, `oel schedule`, `oel trigger`: registers, schedules and triggers deployments."""

import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli import complete
from flows.cli.services.next_times import show_schedules
from flows.cli.shared import RUNS, AsJson, Root, err, out, print_json

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse
    from rich.console import Console

Deployment = Annotated[
    str,
    typer.Argument(
        help="learning-loop, next-round, collect-only or evaluate-model.", autocompletion=complete.deployments
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the deployment, or a field of the configuration."),
]


def deploy(
    root: Root = RUNS,
    pool: Annotated[
        str | None,
        typer.Option(help="Work pool: oel-cpu, oel-gpu (the default if this root has a worker for it), or kubernetes."),
    ] = None,
    image: Annotated[
        str | None, typer.Option(help="Image of the flow runs in the pool kubernetes; needed the first time.")
    ] = None,
    file: Annotated[Path | None, typer.Option(help="Prefect file; deployments/prefect.yaml if not given.")] = None,
    as_json: AsJson = False,
) -> None:
    """Register the deployments with the Prefect server. Existing schedules and runs are kept."""
    from flows.services.client import PREFECT_FILE, register_deployments, use_services
    from flows.services.servers import POOLS, UpSettings, read_settings
    from oel_core.config.urls import without_secrets

    use_services(root)
    settings = read_settings(root.resolve()) or UpSettings()
    chosen = pool or (POOLS[1] if POOLS[1] in settings.pools else POOLS[0])
    said = register_deployments(file or PREFECT_FILE, chosen, image)
    names = re.findall(r"Deployment '([^']+)'", said)
    if as_json:
        print_json([{"deployment": name, "pool": chosen} for name in names])
        return
    for name in names:
        _say(f"{name}  in pool {chosen}")
    _say(f"UI  {without_secrets(os.environ['PREFECT_API_URL']).removesuffix('/api')}/deployments")


def schedule(
    deployment: Deployment,
    cron: Annotated[str | None, typer.Option(help='Cron schedule, like "0 3 * * *".')] = None,
    timezone: Annotated[str, typer.Option(help="Time zone of the schedule, like Europe/Berlin.")] = "UTC",
    off: Annotated[bool, typer.Option("--off", help="Remove its schedules; only those of --set project=NAME.")] = False,
    settings: Set = None,
    root: Root = RUNS,
    as_json: AsJson = False,
) -> None:
    """Set or remove the deployment's cron schedule for a project, or list all schedules with their next times."""
    from flows.services.client import prefect_client, use_services
    from oel_core.errors import ConfigError

    if cron is not None and off:
        raise ConfigError("give --cron or --off, not both")
    use_services(root)
    with prefect_client() as client:
        found = _find(client, deployment)
        if cron is None and not off:
            show_schedules(found, as_json)
            return
        parameters = parameters_of(found, settings or ())
        wanted = _cron(cron, timezone)
        if wanted is not None:
            client.create_deployment_schedules(found.id, [(wanted, True)], parameters=parameters)
        for old in found.schedules:
            if _about(old.parameters or {}) == _about(parameters) or (off and _about(parameters) is None):
                client.delete_deployment_schedule(found.id, old.id)
        show_schedules(_find(client, deployment), as_json)


def trigger(
    deployment: Deployment,
    settings: Set = None,
    trigger_id: Annotated[
        str | None, typer.Option("--id", help="Id of this request; a request with the same id runs once.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until it has ended; the exit code gives the outcome.")
    ] = False,
    root: Root = RUNS,
    as_json: AsJson = False,
) -> None:
    """Start a run of the deployment now. With --wait the exit code is 0: promoted, or completed; 1: failed; 3: refused
    by the gate; 4: too little new experience; 5: waits for review; 6: no line of the inbox is usable."""
    from flows.outcomes import can_resume, exit_code
    from flows.run_names import run_name
    from flows.services.client import prefect_client, use_services

    use_services(root)
    with prefect_client() as client:
        found = _find(client, deployment)
        parameters = parameters_of(found, settings or ())
        if trigger_id is not None and "trigger" in _properties(found):
            parameters["trigger"] = trigger_id
        key, name = _key(trigger_id, parameters), run_name(found.name, {"properties": _properties(found)}, parameters)
        run = client.create_flow_run_from_deployment(found.id, parameters=parameters, name=name, idempotency_key=key)
        over = run.state if key is not None and run.state and run.state.is_final() else None
        if over is not None and can_resume(over.name, completed=over.is_completed()):
            run = client.create_flow_run_from_deployment(found.id, parameters=parameters, name=name)
        if wait:
            run = _wait(client, run, err if as_json else out)
        state = run.state
    row = {"flow_run": str(run.id), "name": run.name, "state": state.name if state is not None else "unknown"}
    if as_json:
        print_json([row])
    else:
        _say(f"{row['name']}: {row['state']}  {row['flow_run']}")
    if wait and state is not None and state.message and not as_json:
        _say(state.message)
    if wait and (code := exit_code(state.name, completed=state.is_completed()) if state is not None else 1):
        raise typer.Exit(code)


def _wait(client: "SyncPrefectClient", run: Any, console: "Console") -> Any:
    """Polls until the final state; the client retries while the server restarts."""
    shown = ""
    while not (run.state and run.state.is_final()):
        time.sleep(2)
        run = client.read_flow_run(run.id)
        if run.state and run.state.name != shown:
            shown = run.state.name
            _say(f"{run.name}: {shown}", console)
    return run


def _key(trigger_id: str | None, parameters: dict[str, Any]) -> str | None:
    """Idempotency key: the same id, parameters and project give one flow run."""
    from oel_core.runs.manifest import digest_bytes

    if trigger_id is None:
        return None
    return f"{trigger_id} {digest_bytes(json.dumps(parameters, sort_keys=True, default=str).encode())}"


def _about(parameters: dict[str, Any]) -> Any:
    """The project or run in the parameters; None means the deployment's default."""
    return parameters.get("project", parameters.get("name"))


def _find(client: "SyncPrefectClient", name: str) -> "DeploymentResponse":
    from prefect.exceptions import ObjectNotFound

    from oel_core.errors import ConfigError

    try:
        return client.read_deployment_by_name(name if "/" in name else f"{name}/{name}")
    except ObjectNotFound as error:
        known = ", ".join(sorted(one.name for one in client.read_deployments())) or "none: run `oel deploy`"
        raise ConfigError(f"no deployment '{name}': there are {known}") from error


def _properties(found: "DeploymentResponse") -> dict[str, Any]:
    return dict((found.parameter_openapi_schema or {}).get("properties", {}))


def parameters_of(found: "DeploymentResponse", settings: Sequence[str]) -> dict[str, Any]:
    """Parameters from NAME=VALUE; a name that is not a parameter of the deployment overrides a field of the
    configuration.

    Raises:
        ConfigError: no name, a value that is not YAML, or a field that does not exist or cannot have this value.
    """
    from oel_core.config.fields import shown
    from oel_core.config.run import OelConfig, check_overrides
    from oel_core.config.yaml_text import parse_yaml
    from oel_core.errors import ConfigError

    chosen: dict[str, Any] = {}
    overrides: list[str] = []
    for setting in settings:
        name, separator, value = setting.partition("=")
        if separator and name in _properties(found):
            is_text = _is_text(_properties(found)[name])
            chosen[name] = value if is_text else parse_yaml(value, f"--set {shown(setting)}").values
        elif separator and name.split(".")[0] in OelConfig.model_fields:
            overrides.append(setting)
        else:
            known = ", ".join(_properties(found))
            raise ConfigError(f"--set {shown(setting)}: neither a parameter ({known}) nor a field of the configuration")
    check_overrides(overrides)
    return chosen | ({"overrides": [*chosen.get("overrides", []), *overrides]} if overrides else {})


def _is_text(entry: Mapping[str, Any]) -> bool:
    """Whether a parameter accepts text only, so that a project named 2026 is not parsed as a number."""
    return entry.get("type") == "string"


def _cron(cron: str | None, timezone: str) -> Any:
    from prefect.client.schemas.schedules import CronSchedule
    from pydantic import ValidationError

    from oel_core.errors import ConfigError
    from oel_core.text.invalid import first_problem

    try:
        return CronSchedule(cron=cron, timezone=timezone) if cron is not None else None
    except ValidationError as error:
        raise ConfigError(f'--cron "{cron}" --timezone {timezone}: {first_problem(error)[1]}') from error


def _say(line: str, console: "Console" = out) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)
