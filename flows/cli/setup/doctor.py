"""`oel doctor`: checks the requirements of a run on this machine, and lists the optional extras."""

import os
import platform
import shutil
import socket
import subprocess
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import typer

from flows.cli.shared import RUNS, AsJson, Root, err, out, print_json, print_table

PACKAGES = ("torch", "transformers", "trl", "peft", "prefect", "fastapi", "mlflow", "textworld", "textarena")
EXTRAS = {
    "vllm": ("vllm", "faster generation on a GPU"),
    "lm-eval": ("lm_eval", "IF-Eval and the tasks of lm-evaluation-harness as suites"),
    "gguf": ("gguf", "`oel models fetch`: small pretrained models without the hub"),
    "postgres": ("psycopg2", "`oel up --postgres`: PostgreSQL instead of SQLite for both servers"),
}
PORTS = {4200: "a Prefect server", 5000: "an MLflow server"}


class Finding(NamedTuple):
    """The result of one check."""

    what: str
    ok: bool
    found: str


def doctor(root: Root = RUNS, as_json: AsJson = False) -> None:
    """Check versions, GPU, writable paths and ports, and list what each missing extra would add."""
    python = f"{platform.python_version()} on {platform.system()}, {os.cpu_count()} cores"
    findings = [
        Finding("python", True, python),
        *map(_package, PACKAGES),
        _gpu(),
        _writable(root),
        *_ports(),
        *_extras(),
        _seed_model(),
    ]
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        rows = [(finding.what, "ok" if finding.ok else "missing", finding.found) for finding in findings]
        print_table("", ("what", "state", "found"), rows)
    if not all(finding.ok for finding in findings):
        err.print("Something a run needs is missing: see the rows above.", style="red")
        raise typer.Exit(1)
    if not as_json:
        out.print("Everything a run needs is here.")


def _package(name: str) -> Finding:
    try:
        return Finding(name, True, version(name))
    except PackageNotFoundError:
        return Finding(name, False, "not installed: pip install oel installs it")


def _gpu() -> Finding:
    """Queries the driver instead of torch, whose import takes seconds. A GPU is optional."""
    query = shutil.which("nvidia-smi")
    if query is None:
        return Finding("gpu", True, "none: runs on the CPU")
    asked = ["--query-gpu=name,memory.total", "--format=csv,noheader"]
    answer = subprocess.run([query, *asked], capture_output=True, text=True, check=False)
    names = ", ".join(line.strip() for line in answer.stdout.splitlines())
    return Finding("gpu", True, names if answer.returncode == 0 and names else "none that its driver can see")


def _writable(root: Path) -> Finding:
    """Checks the root if it exists, otherwise the nearest existing parent folder."""
    place = next(folder for folder in (root.resolve(), *root.resolve().parents) if folder.exists())
    if not (place.is_dir() and os.access(place, os.W_OK)):
        return Finding(f"root {root}", False, f"{place} is not a writable folder: choose another --root")
    free = shutil.disk_usage(place).free / 2**30
    return Finding(f"root {root}", True, f"writable, {free:.1f} GiB free")


def _ports() -> list[Finding]:
    """For information: neither server is required."""
    findings = []
    for port, server in PORTS.items():
        with socket.socket() as probe:
            probe.settimeout(0.5)
            answers = probe.connect_ex(("127.0.0.1", port)) == 0
        state = f"in use, maybe by {server}" if answers else f"free; {server} would use it, none is needed"
        findings.append(Finding(f"port {port}", True, state))
    return findings


def _extras() -> list[Finding]:
    return [
        Finding(f"extra {extra}", True, ("installed: " if find_spec(module) else "not installed, would add: ") + gives)
        for extra, (module, gives) in EXTRAS.items()
    ]


def _seed_model() -> Finding:
    from oel_core.errors import OelError
    from oel_core.models.checkpoints import SEED_LM, resolve_model

    try:
        resolve_model(SEED_LM)
    except OelError as error:
        return Finding(SEED_LM, False, str(error))
    return Finding(SEED_LM, True, "its weights are here")
