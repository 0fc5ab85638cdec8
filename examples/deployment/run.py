"""A shop's assistant that learns from its customers until two rounds are promoted: `python examples/deployment/run.py`.

Starts the servers, a project, its gateway and the customers, lets Prefect's schedule begin a round every minute, and
stops all of it after some traffic on the last promoted model. Everything that happens is the command line's; this only
calls it in order.
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from visits import by_version, read_visits

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
PROJECT = "shop"
MODELS = {"seed": ("seed.yaml", 30.0), "qwen2.5-coder-0.5b": ("qwen.yaml", 120.0)}
"""By model: the project's settings, and the minutes after which the example ends at the latest."""
OEL = [sys.executable, "-m", "flows.cli.app"]
LOOK_S = 2.0
"""Between two looks at what has happened."""
SETTLE_S = 8.0
"""After the last visit, until its conversation is in the inbox (`serve.session_idle_s` and a moment)."""


def oel(*arguments: object) -> None:
    """One command of the project. Ends the example if it fails."""
    done = subprocess.run([*OEL, *map(str, arguments)], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"oel {' '.join(map(str, arguments))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def services(root: Path) -> Iterator[None]:
    """Prefect, MLflow and a worker, with the project's deployments."""
    try:
        oel("up", "--root", root, "--timeout", 900, "--prefect-port", free_port(), "--mlflow-port", free_port())
        oel("deploy", "--root", root)
        yield
    finally:
        subprocess.run([*OEL, "down", "--root", str(root)], cwd=CHECKOUT, stdout=subprocess.DEVNULL, check=False)


@contextlib.contextmanager
def process(command: list[str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that is asked to stop when the block ends, with what it says in `log`."""
    with log.open("wb") as file:
        running = subprocess.Popen(command, cwd=CHECKOUT, stdout=file, stderr=subprocess.STDOUT)
        try:
            yield running
        finally:
            running.send_signal(signal.SIGTERM)
            running.wait(60)


def gateway_says(log: Path, running: "subprocess.Popen[bytes]") -> dict[str, str]:
    """What the gateway says of itself once it listens."""
    while running.poll() is None:
        for line in log.read_text().splitlines():
            if line.startswith('{"project"') and line.endswith("}"):
                said: dict[str, str] = json.loads(line)
                return said
        time.sleep(0.2)
    sys.exit(f"the gateway has ended:\n{log.read_text()}")


def outcomes(project: Path) -> list[dict[str, Any]]:
    """How the project's rounds ended, in order."""
    return [json.loads(path.read_text()) for path in sorted(project.glob("round_*/outcome.json"))]


def watch(project: Path, running: dict[str, "subprocess.Popen[bytes]"], options: argparse.Namespace) -> None:
    """Says how each round ends, until enough of them were promoted and traffic has gone on for a while."""
    told, end = 0, time.monotonic() + 60 * options.minutes
    while time.monotonic() < end:
        for name, one in running.items():
            if one.poll() is not None:
                sys.exit(f"{name} ended with {one.returncode}: see {project.parent / name}.log")
        over = outcomes(project)
        for one in over[told:]:
            say(f"round {one['round']}: {one['outcome']}, {one['detail']}")
        promoted = sum(one["outcome"] == "promoted" for one in over)
        if len(over) > told and promoted >= options.promotions:
            end = min(end, time.monotonic() + options.after)
        told = len(over)
        time.sleep(LOOK_S)


def show(root: Path) -> None:
    """What the shop itself knows about the visits, version by version."""
    print("\nversion                     visits  went to the right desk   95% interval")
    for name, count, rate, low, high in by_version(read_visits(root / "visits.jsonl")):
        print(f"{name:<26}  {count:>6}  {rate:>22.1%}   {low:.1%} to {high:.1%}")
    print(f"\nReport   {root / PROJECT / 'report.html'}#deployment\nVisits   {root / 'visits.jsonl'}")


def operate(root: Path, options: argparse.Namespace) -> None:
    """The deployment, from its first visit to its last."""
    project = root / PROJECT
    settings = [f"experience.inbox={project / 'inbox'}", *options.set]
    chosen = [word for one in settings for word in ("--set", one)]
    oel("init", PROJECT, "--root", root, "--preset", HERE / MODELS[options.model][0])
    serve = [*OEL, "serve", PROJECT, "--root", str(root), "--port", "0", "--json", *chosen]
    with process(serve, root / "gateway.log") as gateway:
        said = gateway_says(root / "gateway.log", gateway)
        say(f"{said['version']} answers at {said['address']}")
        pace = [f"--{name}={getattr(options, name)}" for name in ("customers", "pause", "votes", "corrections")]
        visitors = [sys.executable, str(HERE / "customers.py"), "--url", said["address"], "--token", said["token"]]
        visitors += ["--model", PROJECT, "--log", str(root / "visits.jsonl"), *pace]
        with process(visitors, root / "customers.log") as customers:
            preset = f"preset_file={project / 'preset.yaml'}"
            about = ["--root", root, "--set", f"project={PROJECT}"]
            oel("schedule", "next-round", "--cron", options.cron, *about, "--set", preset, *chosen)
            say(f"customers visit; a round is tried by the schedule {options.cron}")
            watch(project, {"gateway": gateway, "customers": customers}, options)
            oel("schedule", "next-round", "--off", *about)
        time.sleep(SETTLE_S)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("runs-deployment"), help="new folder for everything")
    parser.add_argument("--model", choices=MODELS, default="seed")
    parser.add_argument("--promotions", type=int, default=2, help="after so many it ends")
    parser.add_argument("--after", type=float, default=90, help="seconds of traffic on the last promoted model")
    parser.add_argument("--minutes", type=float, help="it ends at the latest (seed 30, qwen2.5-coder-0.5b 120)")
    parser.add_argument("--cron", default="* * * * *", help="when a round is tried")
    parser.add_argument("--customers", type=int, default=6, help="at the same time")
    parser.add_argument("--pause", type=float, default=3.0, help="mean seconds between two visits of a customer")
    parser.add_argument("--votes", type=float, default=0.9, help="share of visits with a vote")
    parser.add_argument("--corrections", type=float, default=0.7, help="share of wrong calls that a clerk corrects")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="of the project's settings")
    options = parser.parse_args()
    options.minutes = options.minutes or MODELS[options.model][1]
    root = options.root.resolve()
    if root.exists():
        sys.exit(f"{root} is there already: remove it, or name another with --root")
    root.mkdir(parents=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the gateway and the round share the cores
    say(f"starting the servers; everything goes into {root}")
    with services(root):
        operate(root, options)
        oel("report", PROJECT, "--root", root)
    show(root)


if __name__ == "__main__":
    main()
