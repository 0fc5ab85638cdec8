"""`oel serve`: an OpenAI-compatible server for a project's champion."""

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.shared import RUNS, AsJson, Overrides, Root, RunName, err, out, print_json
from flows.services.ports import is_loopback

if TYPE_CHECKING:
    from oel_core.config.run import OelConfig
    from oel_core.runs.folder import RunFolder
    from oel_core.serving.answering.champion import Lookup
    from oel_core.serving.recording.traces import Viewer


def serve(
    run: RunName,
    root: Root = RUNS,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Instead of serve.port; 0: any free port.")] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Serve a project's champion as an OpenAI-compatible API, and record the conversations to its inbox."""
    from oel_core.config.run import load_config
    from oel_core.models.threads import use_threads
    from oel_core.runs.folder import RunFolder
    from oel_core.serving.api.access import TOKEN, token_of
    from oel_core.serving.api.server import BACKLOG, address, bind_socket
    from oel_core.serving.api.server import run as run_server
    from oel_core.serving.gateway import open_gateway

    path = _settings_of(root, run)
    folder = RunFolder(path.parent)
    more = [] if port is None else [f"serve.port={port}"]
    config = load_config(str(path), [*(overrides or ()), *more])
    token = token_of(folder.path, config.serve.token_env, os.environ)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for chatty in ("httpx", "alembic", "mlflow"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    use_threads(config.model)
    at = bind_socket(config.serve)
    with open_gateway(folder.name, config, champion_of(folder, config), token, _viewer(folder, config)) as gateway:
        at.listen(BACKLOG)
        kept = f"${config.serve.token_env}" if config.serve.token_env else str(folder.path / TOKEN)
        values = {
            "project": folder.name,
            "version": gateway.version,
            "address": address(at),
            "token": kept,
            "inbox": str(gateway.inbox),
        }
        _say(values, as_json)
        if not is_loopback(config.serve.host):
            err.print("serve.host can be reached from other machines: put a proxy that speaks TLS before it")
        run_server(gateway.app, config.serve, at)


def _viewer(folder: "RunFolder", config: "OelConfig") -> "Viewer | None":
    """MLflow, where people may look at answers and rate them."""
    if config.serve.traces == "off":
        return None
    from tasks.tracking.client import tracker_of
    from tasks.tracking.settings import load_settings
    from tasks.tracking.traces import MlflowTraces

    return MlflowTraces(tracker_of(load_settings(), folder), folder.name, config.serve.top_score)


def _say(values: dict[str, str], as_json: bool) -> None:
    """Prints the gateway's address and how to connect."""
    if as_json:
        print_json([values])
        sys.stdout.flush()
        return
    for name, value in values.items():
        out.print(f"{name.capitalize():<8} {value}", soft_wrap=True)


def _settings_of(root: Path, run: str) -> Path:
    """The file of a project's settings; of one that `oel init` made and that has had no round yet its preset."""
    from oel_core.housekeeping.listing import PRESET
    from oel_core.runs.folder import CONFIG, find_run

    for folder in (root / run, Path(run)):
        if (folder / PRESET).is_file() and not (folder / CONFIG).exists():
            return folder / PRESET
    return find_run(root, run).path / CONFIG


def champion_of(folder: "RunFolder", config: "OelConfig") -> "Lookup":
    """Asks the registry for the champion, before the first one the preset's model; and for a candidate to be tried."""
    from flows.services.client import use_tracking
    from oel_core.gate.sessions import version_name
    from oel_core.rounds.round import Round
    from oel_core.serving.answering.champion import Champion, Registered

    use_tracking(folder.path.parent)
    from tasks.tracking.registry import registry_of
    from tasks.tracking.settings import load_settings

    registry = registry_of(load_settings(), folder)
    known: dict[str, Champion] = {}

    def served(label: str, round: int) -> Champion:
        if label not in known:
            path = Round(config, folder, round).model()
            known[label] = Champion(version_name(folder.name, label, path), path)
        return known[label]

    def lookup() -> Registered:
        champion = registry.champion()
        candidate = registry.awaiting_deployment() if config.gate.deployment.use != "off" else None
        return Registered(
            served(champion.version, champion.round) if champion else served("base", 0),
            served(candidate.version, candidate.round) if candidate else None,
        )

    return lookup
